"""Equal dependencies give equal keys, anything else another one, and the reason is told."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flyball.domain.pipelines.keys import KeyParts, LastTime, compute_key, compute_seed, explain

PARTS = KeyParts(
    code_digest="c1",
    code={"project.py::evaluate": "e1", "helpers.py::ratio": "r1"},
    own_code="project.py::evaluate",
    parameters={"learning_rate": "0.1", "rows": "10"},
    files={"path=data/a.csv": "f1"},
    inputs={"model": "m1"},
    sources={"model": "train"},
)


def changed(**changes: Any) -> KeyParts:
    return msgspec.structs.replace(PARTS, **changes)


def why(now: KeyParts, last: KeyParts | None = PARTS, status: str = "ran") -> str:
    return explain("evaluate", now, None if last is None else LastTime(run_id="r", status=status, parts=last))


_names = st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3)
_parts = st.builds(
    KeyParts,
    code_digest=st.text(max_size=4),
    code=st.just({}),
    own_code=st.just(""),
    parameters=_names,
    files=_names.map(lambda names: {name.replace("=", "") + "=x": digest for name, digest in names.items()}),
    inputs=_names,
    sources=_names,
    identity=st.text(max_size=4),
)


@given(_parts, _parts)
def test_keys_are_equal_exactly_when_what_counts_is(one: KeyParts, other: KeyParts) -> None:
    counts = ("code_digest", "parameters", "files", "inputs", "identity")
    same = all(getattr(one, name) == getattr(other, name) for name in counts)
    assert (compute_key(one) == compute_key(other)) == same


def test_where_a_file_lies_and_where_an_input_comes_from_do_not_count() -> None:
    assert compute_key(changed(files={"path=elsewhere/b.csv": "f1"})) == compute_key(PARTS)
    assert compute_key(changed(sources={"model": "train_2"})) == compute_key(PARTS)
    assert compute_key(changed(files={"other=data/a.csv": "f1"})) != compute_key(PARTS)


def test_seeds_fit_every_generator() -> None:
    assert 0 <= compute_seed(compute_key(PARTS)) < 2**32


def test_the_reason_names_what_changed() -> None:
    assert why(PARTS, None) == "never run"
    assert why(changed(code_digest="c2", code={**PARTS.code, "project.py::evaluate": "e2"})) == (
        "code of evaluate changed"
    )
    assert why(changed(code_digest="c2", code={**PARTS.code, "helpers.py::ratio": "r2"})) == (
        "code of evaluate changed: helper ratio"
    )
    assert why(changed(parameters={"learning_rate": "0.2", "rows": "10"})) == "parameter learning_rate 0.1 → 0.2"
    assert why(changed(parameters={"rows": "10", "depth": "3"})) == (
        "parameter depth is new; parameter learning_rate is gone"
    )
    assert why(changed(inputs={"model": "m2"})) == "input data changed: model (from train)"
    assert why(changed(files={"path=data/a.csv": "f2"})) == "input data changed: file data/a.csv"
    assert why(changed(identity="other")) == "the data or declarations it reads changed"
    assert why(PARTS, status="failed") == "failed in run r"
    assert why(PARTS) == "its stored result is gone"
