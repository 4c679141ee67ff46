"""What the protocols ask of the data plane: columns in, one answer for all rows or an error out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.data.schemas import Field
from flyball.domain.predictions.records import Explanation
from flyball.domain.serving.answers import Answer, Problem, RequestRefusedError
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.direct import Block, DirectVersion
from flyball.domain.serving.direct_plane import DirectAnswer
from flyball.domain.serving.fleet import Line, NothingLiveError
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.domain.serving.rows import failure_of
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.metrics import GatewayMetrics

MAX_ROWS = 10_000
_MOST_PROBLEMS = 20


class TooManyRowsError(InvalidInputError):
    """A request holds more rows than are answered at once, or none."""

    code = "serving/row-count"

    def __init__(self, rows: int) -> None:
        held = "no row" if rows == 0 else f"{rows:,} rows"
        super().__init__(
            f"a request must hold 1 to {MAX_ROWS:,} rows, but it holds {held}",
            hint="Send fewer rows at once; for whole tables there is: flyball score",
        )


class QuarantinedError(InvalidInputError):
    """A row breaks an expectation, and the endpoint keeps such rows aside instead of answering them."""

    code = "serving/quarantined"

    def __init__(self, endpoint: str, problems: Sequence[Problem]) -> None:
        told = "; ".join(problem.message for problem in problems[:5])
        super().__init__(f"{endpoint!r} keeps the request aside without an answer: {told}")


class Columns(msgspec.Struct, frozen=True):
    """The rows of a request, column by column.

    Attributes:
        values: Each field's JSON values, all of one length.
        height: How many rows there are.
    """

    values: Mapping[str, Sequence[Any]]
    height: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row's fields."""
        names = list(self.values)
        if not names:
            return ({} for _ in range(self.height))
        return (dict(zip(names, row, strict=True)) for row in zip(*self.values.values(), strict=True))


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to all rows of a request, each of which has a prediction.

    Attributes:
        endpoint: Who was asked.
        first_id: Names the first row's prediction.
        ids: Name each row's.
        versions: Who answered each row, such as ``credit-risk/3``.
        predictions: The values, positive classes' probabilities, or likeliest classes.
        scores: Each class's probability, for more than two classes.
        explanations: What each feature added, where that was asked for; None for a row that could not be explained.
    """

    endpoint: str
    first_id: str
    ids: Sequence[str]
    versions: Sequence[str]
    predictions: Sequence[Any]
    scores: Sequence[Sequence[float]] | None = None
    explanations: Sequence[Explanation | None] = ()

    @property
    def numbers(self) -> list[str]:
        """The versions' numbers without their model."""
        return [ref.rpartition("/")[2] for ref in self.versions]

    @property
    def number(self) -> str:
        """The number of the version that answered; empty where several shared the rows."""
        first = self.versions[0]
        return first.rpartition("/")[2] if self.versions.count(first) == len(self.versions) else ""


class Asker:
    """Asks the data plane in the name of all protocols.

    Args:
        plane: Answers.
        metrics: Counts what was answered.
        versions: Finds the versions that callers name.
    """

    def __init__(self, plane: DataPlane, metrics: GatewayMetrics, versions: VersionsOnDemand) -> None:
        self.plane = plane
        self.versions = versions
        self._metrics = metrics

    @property
    def lines(self) -> Mapping[str, Line]:
        """All endpoints as they answer now."""
        return self.plane.fleet.lines

    def line(self, endpoint: str) -> Line:
        """Return an endpoint as it answers now.

        Raises:
            UnknownNameError: There is no such endpoint.
        """
        return self.plane.fleet.line(endpoint)

    def open(self, endpoint: str, exchange: Exchange, number: str = "") -> LoadedVersion:
        """Return the version that is asked, and note whom the request is for.

        Raises:
            UnknownNameError: There is no such endpoint; see `VersionsOnDemand.load` for more.
        """
        self.line(endpoint)
        exchange.endpoint = endpoint
        return self.versions.load(endpoint, number)

    def is_ready(self) -> bool:
        """Tell whether every endpoint that has a live version can answer."""
        # No version yet is a state of every new project; a live one that cannot answer is not.
        return all(line.live is not None or isinstance(line.problem, NothingLiveError) for line in self.lines.values())

    def ask(
        self,
        endpoint: str,
        rows: Columns | Sequence[Any],
        exchange: Exchange,
        version: LoadedVersion | None = None,
        *,
        explain: bool = False,
    ) -> Answered:
        """Answer all rows, or none.

        Args:
            endpoint: Who is asked.
            rows: Columns of one length, or rows of fields.
            exchange: The request on its way; told who answered.
            version: Who shall answer; the one that routing picks by default.
            explain: Whether each answer shall tell what each feature added to it.

        Raises:
            RequestRefusedError: A row is not what the model asks for; all problems are told with their rows.
            QuarantinedError: A row was kept aside.
            ModelFailedError: The model, or a function that it relies on, failed.
            FeaturesUnavailableError: The online store did not answer.
            TooManyRowsError: There are none, or too many.
        """
        height = rows.height if isinstance(rows, Columns) else len(rows)
        if not 0 < height <= MAX_ROWS:
            raise TooManyRowsError(height)
        exchange.rows = height
        if isinstance(rows, Columns) and not explain:
            direct = self.plane.find_direct(endpoint, version)
            block = None if direct is None else direct.read_columns(rows.values, height)
            if direct is not None and block is not None:
                answered = self.ask_block(endpoint, direct, block, exchange, is_pinned=version is not None)
                if answered is not None:
                    return answered
        requests = list(rows.rows()) if isinstance(rows, Columns) else rows
        exchange.mark("decode")
        answers = self.plane.predict(
            endpoint, requests, defer=exchange.defer, pinned=version, mark=exchange.mark, explain=explain
        )
        return self.conclude(endpoint, answers, exchange, explain=explain)

    def conclude(
        self, endpoint: str, answers: Sequence[Answer], exchange: Exchange, *, explain: bool = False
    ) -> Answered:
        """Return the answer to all rows of a request; see `ask` for what is raised."""
        exchange.rows = len(answers)
        exchange.prediction_id = answers[0].prediction_id
        exchange.version = answers[0].model_version
        exchange.note(lambda: self._metrics.count_rows(answers))
        failure = _find_failure(endpoint, answers)
        if failure is not None:
            raise failure
        return Answered(
            endpoint=endpoint,
            first_id=answers[0].prediction_id,
            ids=[answer.prediction_id for answer in answers],
            versions=[answer.model_version for answer in answers],
            predictions=[answer.prediction for answer in answers],
            scores=None
            if answers[0].scores is None
            else [list(answer.scores.values()) for answer in answers if answer.scores is not None],
            explanations=[answer.explanation for answer in answers] if explain else (),
        )

    def ask_block(
        self, endpoint: str, version: DirectVersion, block: Block, exchange: Exchange, *, is_pinned: bool = False
    ) -> Answered | None:
        """Answer rows that a version read for the short way; None where only `ask` can tell."""
        ask = self.plane.begin_direct(endpoint, version, block, exchange.started_s, is_pinned=is_pinned)
        if ask is None:
            return None
        exchange.mark("decode")
        [answer] = self.plane.answer_direct([ask], defer=exchange.defer)
        return None if answer is None else self.finish(endpoint, answer, exchange)

    def finish(self, endpoint: str, answer: DirectAnswer, exchange: Exchange) -> Answered:
        """Return what a request on the short way was answered, and note it."""
        rows = len(answer.ids)
        exchange.rows = rows
        exchange.mark("score")
        exchange.prediction_id, exchange.version = answer.ids.first, answer.loaded.ref
        exchange.note(lambda: self._metrics.count_predictions(endpoint, answer.loaded.ref, answer.variant, rows))
        return Answered(
            endpoint=endpoint,
            first_id=answer.ids.first,
            ids=answer.ids,
            versions=[answer.loaded.ref] * rows,
            predictions=answer.values,
            scores=answer.scores or None,
        )


def required_fields(loaded: LoadedVersion) -> list[Field]:
    """Return the fields that every request must carry, in their order."""
    return [field for field in loaded.request.schema.fields if field.name != loaded.time]


def _find_failure(endpoint: str, answers: Sequence[Answer]) -> FlyballError | None:
    """Return what is wrong with the first rows that have no prediction; the client's mistakes come first."""
    bad = [(number, answer) for number, answer in enumerate(answers) if not answer.is_ok]
    if not bad:
        return None
    for status in ("refused", "quarantined"):
        problems = [
            _place(problem, number, len(answers))
            for number, answer in bad[:_MOST_PROBLEMS]
            if answer.status == status
            for problem in answer.errors
        ]
        if problems:
            kind = RequestRefusedError if status == "refused" else QuarantinedError
            return kind(endpoint, problems)
    return failure_of(bad[0][1])


def _place(problem: Problem, number: int, rows: int) -> Problem:
    if rows == 1:
        return problem
    return Problem(
        field=f"rows[{number}].{problem.field}".removesuffix("."),
        rule=problem.rule,
        message=f"row {number}: {problem.message}",
    )
