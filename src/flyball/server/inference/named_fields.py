"""Our own protocol, ``POST /predict/ENDPOINT``: rows of named fields, each answered for itself."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.serving.answers import Answer, Problem, RequestRefusedError
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.direct_plane import DirectAnswer, DirectAsk
from flyball.domain.serving.rows import failure_of, lacks_features
from flyball.server.inference.asking import MAX_ROWS
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.paths import refuse_as_problem
from flyball.server.problems import BodyUnreadableError

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class NamedFields:
    """Reads and answers requests.

    Args:
        plane: Answers.
        metrics: Counts what was answered.
    """

    name = "flyball"

    def __init__(self, plane: DataPlane, metrics: GatewayMetrics) -> None:
        self._plane = plane
        self._metrics = metrics

    def begin(self, endpoint: str, body: bytes, exchange: Exchange) -> tuple[DirectAsk, Any] | None:
        """See `ShortWay`."""
        version = self._plane.find_direct(endpoint)
        if version is None:
            return None
        try:
            rows, is_batch = read_rows(body)
        except FlyballError:
            return None
        block = version.read_rows(rows)
        ask = None if block is None else self._plane.begin_direct(endpoint, version, block, exchange.started_s)
        return None if ask is None else (ask, is_batch)

    def finish(self, endpoint: str, answer: DirectAnswer, is_batch: bool, exchange: Exchange) -> bytes:
        """See `ShortWay`."""
        ref, variant, values = answer.loaded.ref, answer.variant.value, answer.values
        exchange.version, exchange.prediction_id, exchange.rows = ref, answer.ids.first, len(values)
        self._metrics.count_predictions(endpoint, ref, variant, len(values))
        labels = answer.labels
        answers = [
            Answer(
                prediction=value,
                prediction_id=answer.ids[row],
                model_version=ref,
                variant=variant,
                endpoint=endpoint,
                features=answer.features(row),
                status="ok",
                scores=dict(zip(labels, answer.scores[row], strict=True)) if answer.scores else None,
            )
            for row, value in enumerate(values)
        ]
        return _encode({"endpoint": endpoint, "predictions": answers} if is_batch else answers[0])

    def read(self, endpoint: str, body: bytes) -> tuple[Sequence[Any], Any] | None:
        """See `ShortWay`."""
        try:
            return read_rows(body)
        except FlyballError:
            return None

    def reply(self, endpoint: str, answers: Sequence[Answer], is_batch: Any, exchange: Exchange) -> Reply:
        """See `ShortWay`."""
        exchange.rows = len(answers)
        exchange.version, exchange.prediction_id = answers[0].model_version, answers[0].prediction_id
        exchange.note(lambda: self._metrics.count_rows(answers))
        return _reply_batch(endpoint, answers) if is_batch else _reply_one(answers[0])

    def answer(self, endpoint: str, body: bytes, exchange: Exchange, *, explain: bool = False) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        request, is_batch = read_rows(body)
        if endpoint in self._plane.fleet.lines:
            exchange.endpoint = endpoint
        exchange.mark("decode")
        try:
            answers = self._plane.predict(endpoint, request, defer=exchange.defer, mark=exchange.mark, explain=explain)
        except RecursionError as error:
            raise BodyUnreadableError("it is nested too deeply") from error
        return self.reply(endpoint, answers, is_batch, exchange)


def read_rows(body: bytes) -> tuple[Sequence[Any], bool]:
    """Return the rows of a body, and whether it holds many: ``{"rows": [...]}``."""
    try:
        content = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        reason = (
            "it is empty" if not body else "it is nested too deeply" if isinstance(error, RecursionError) else error
        )
        raise BodyUnreadableError(str(reason)) from error
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise InvalidInputError(
            f"the body must be a JSON object of named fields, but it is {kind}",
            hint='Send one row as {"field": value, ...}, or many as {"rows": [{...}, {...}]}.',
        )
    rows = content.get("rows")
    if len(content) != 1 or not isinstance(rows, list):
        return [content], False
    if not 0 < len(rows) <= MAX_ROWS:
        raise InvalidInputError(f"rows must hold 1 to {MAX_ROWS:,} rows, but it holds {len(rows):,}")
    return rows, True


def _reply_one(answer: Answer) -> Reply:
    if answer.status == "ok":
        return Reply(200, _encode(answer))
    if answer.status == "quarantined":
        return Reply(202, _encode(answer))
    is_refused = answer.status == "refused"
    error = RequestRefusedError(answer.endpoint, answer.errors) if is_refused else failure_of(answer)
    return refuse_as_problem(error, prediction_id=answer.prediction_id)


def _reply_batch(endpoint: str, answers: Sequence[Answer]) -> Reply:
    """Answer many rows: each has its own status; the response's is the best of them."""
    statuses = {answer.status for answer in answers}
    if statuses == {"refused"}:
        problems = [
            Problem(field=f"rows[{number}].{found.field}".removesuffix("."), rule=found.rule, message=found.message)
            for number, answer in enumerate(answers)
            for found in answer.errors
        ]
        return refuse_as_problem(RequestRefusedError(endpoint, problems))
    status = 200 if "ok" in statuses else 202 if "quarantined" in statuses else 502
    if status == 502 and all(map(lacks_features, answers)):
        status = 503
    return Reply(status, _encode({"endpoint": endpoint, "predictions": answers}))
