"""A pipeline's body becomes a graph, or is refused with words that name what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.pipelines.graph import MisfitError, Node, build_graph
from flyball.domain.pipelines.parameters import ParameterError, parse_pairs
from flyball.domain.pipelines.steps import PipelineCycleError, pipeline, step


@step
def load(rows: int = 10) -> list[int]:
    return list(range(rows))


@step
def halve(values: list[int]) -> tuple[list[int], list[int]]:
    return values[::2], values[1::2]


@step(retries=2, backoff="10ms", name="training")
def train(values: list[int], learning_rate: float = 0.1, path: Path | None = None) -> float:
    return sum(values) * learning_rate


@step
def join(values: list[float]) -> float:
    return sum(values)


def test_outside_a_pipeline_a_step_is_the_function() -> None:
    assert load(3) == [0, 1, 2]
    assert train([1, 2], learning_rate=1.0) == 3
    assert train.__name__ == "train"
    assert (train.name, train.retries) == ("training", 2)


def test_a_pipeline_outside_is_plain_python() -> None:
    @pipeline
    def whole() -> float:
        first, second = halve(load(4))
        return join([train(first, 1.0), train(second, 1.0)])

    assert whole() == 6


def test_calls_are_named_numbered_and_ordered() -> None:
    @pipeline
    def whole() -> Any:
        first, second = halve(load())
        return join([train(first), train(second, learning_rate=0.5)])

    graph = build_graph(whole)
    assert [call.name for call in graph.calls] == ["load", "halve", "training", "training_2", "join"]
    assert [sorted(call.needs) for call in graph.calls] == [[], [0], [1], [1], [2, 3]]
    assert graph.calls[2].inputs["values"].output == 0
    assert list(graph.outputs) == ["join"]
    assert graph.parameters == {
        "load.rows": 10,
        "training.learning_rate": 0.1,
        "training.path": None,
        "training_2.learning_rate": 0.5,
        "training_2.path": None,
    }


def test_a_pipeline_called_by_another_is_part_of_it() -> None:
    @pipeline
    def inner(rows: int = 2) -> Any:
        return load(rows)

    @pipeline
    def outer() -> Any:
        return train(inner(5))

    assert [call.name for call in build_graph(outer).calls] == ["load", "training"]


def test_a_pipeline_that_calls_itself_is_refused_with_its_path() -> None:
    @pipeline
    def first() -> Any:
        return second()

    @pipeline(name="the second")
    def second() -> Any:
        return first()

    with pytest.raises(PipelineCycleError, match="first → the second → first"):
        build_graph(first)

    @pipeline
    def alone() -> Any:
        return alone()

    with pytest.raises(PipelineCycleError, match="alone → alone"):
        build_graph(alone)


def test_the_result_of_a_step_that_does_not_fit_is_refused() -> None:
    @pipeline
    def whole() -> Any:
        return train(join([1.0]))

    with pytest.raises(MisfitError) as raised:
        build_graph(whole)
    message = str(raised.value)
    assert "step 'training': parameter 'values' expects list[int]" in message
    assert "the result of step 'join', which is float" in message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (lambda: train([1], "fast"), r"'learning_rate' expects float, but is given 'fast' \(str\)"),
        (lambda: train([1], path="data.csv"), r"'path' expects Path \| None, but is given 'data.csv'"),
        (lambda: train(["a"]), r"'values' expects list\[int\], but is given \['a'\]"),
        (lambda: join([load()]), r"'values' expects list\[float\], but is given the result of step 'load'"),
        (lambda: train(), "missing a required argument: 'values'"),
        (lambda: train([1], speed=3), "unexpected keyword argument 'speed'"),
        (lambda: load(1, 2), "too many positional arguments"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(body: Any, told: str) -> None:
    @pipeline
    def whole() -> Any:
        return body()

    with pytest.raises(InvalidInputError, match=told):
        build_graph(whole)


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda node: bool(node), "has no truth value"),
        (lambda node: node.shape, "has no attribute 'shape'"),
        (lambda node: node[0], "has no item 0"),
        (lambda node: list(node), "cannot be unpacked"),
    ],
)
def test_a_node_is_no_value(use: Any, told: str) -> None:
    @pipeline
    def whole() -> Any:
        use(join([1.0]))

    with pytest.raises(InvalidInputError, match=f"step 'join'.*{told}"):
        build_graph(whole)


def test_too_many_names_for_a_tuple_are_an_error() -> None:
    @pipeline
    def whole() -> Any:
        _a, _b, _c = halve(load())

    with pytest.raises(ValueError, match="not enough values to unpack"):
        build_graph(whole)


def test_an_empty_pipeline_is_refused() -> None:
    @pipeline
    def whole() -> None: ...

    with pytest.raises(InvalidInputError, match="'whole' calls no step"):
        build_graph(whole)


@pytest.mark.parametrize("wrong", [3, "text", print])
def test_only_functions_are_marked(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="plain function"):
        step(wrong)
    with pytest.raises(InvalidInputError, match="plain function"):
        pipeline(wrong)


def test_async_functions_and_generators_are_refused() -> None:
    async def later() -> None: ...

    def many() -> Any:
        yield 1

    for function in (later, many):
        with pytest.raises(InvalidInputError, match="Return the result"):
            step(function)
    with pytest.raises(InvalidInputError, match="retries is -1"):
        step(retries=-1)
    with pytest.raises(InvalidInputError, match="backoff"):
        step(backoff="soon")


class TestParametersFromOutside:
    @staticmethod
    @pipeline
    def whole(rows: int = 3) -> Any:
        return train(load(rows), path=None)

    def build(self, **values: Any) -> dict[str, Any]:
        return build_graph(self.whole, {name.replace("__", "."): value for name, value in values.items()}).parameters

    def test_text_is_read_by_the_annotation(self) -> None:
        parameters = self.build(training__learning_rate="0.2", training__path="a.csv", load__rows="7")
        assert parameters["training.learning_rate"] == 0.2
        assert parameters["training.path"] == Path("a.csv")
        assert parameters["load.rows"] == 7

    def test_values_are_taken_as_they_are(self) -> None:
        assert self.build(training__learning_rate=1)["training.learning_rate"] == 1

    def test_a_parameter_of_the_pipeline_itself_has_no_step(self) -> None:
        assert self.build(rows="9") == {
            "rows": 9,
            "load.rows": 9,
            "training.learning_rate": 0.1,
            "training.path": None,
        }

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("training__learning_rate", "fast", "training.learning_rate expects float, but 'fast' was given"),
            ("load__rows", 1.5, r"load.rows expects int, but 1.5 \(float\) was given"),
            ("training__values", "[1]", "training.values cannot be set: it is the result of another step"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, name: str, value: Any, told: str) -> None:
        with pytest.raises(ParameterError, match=told):
            self.build(**{name: value})

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("training__lerning_rate", "did you mean 'learning_rate'"),
            ("trainin__learning_rate", "did you mean 'training'"),
            ("row", "did you mean 'rows'"),
            ("nothing__like_it", "step of pipeline 'whole'"),
        ],
    )
    def test_an_unknown_name_is_refused_with_the_nearest(self, name: str, told: str) -> None:
        with pytest.raises(NotFoundError, match=told):
            self.build(**{name: "1"})

    def test_pairs_are_read_from_text(self) -> None:
        assert parse_pairs(["a.b=1=2", "c= x"]) == {"a.b": "1=2", "c": " x"}
        with pytest.raises(ParameterError, match="sets no parameter"):
            parse_pairs(["a.b"])


def test_nodes_show_what_they_stand_for() -> None:
    seen: list[Node] = []

    @pipeline
    def whole() -> Any:
        seen.extend(halve(load()))  # type: ignore[arg-type]

    build_graph(whole)
    assert [repr(node) for node in seen] == ["<result of halve[0]>", "<result of halve[1]>"]
