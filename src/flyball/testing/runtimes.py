"""What every runtime must do, for ours and a plugin author's: ``for check in RUNTIME_CHECKS: check(case)``."""

import pickle
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from flyball.domain.data.schemas import SchemaMismatchError
from flyball.domain.registry.explaining import Scale, open_explainer
from flyball.domain.registry.runtimes import Predictor, Runtimes, each_form
from flyball.domain.registry.signatures import Signature


class RuntimeCase(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model to check a runtime with.

    Attributes:
        name: The runtime's name.
        model: The fitted model.
        signature: What it takes and gives.
        rows: Rows with the signature's features, at least two.
        expected: What the model must answer for them, by its own library.
    """

    name: str
    model: Any
    signature: Signature
    rows: Any
    expected: Any


def check_it_is_chosen_for_its_models(case: RuntimeCase) -> None:
    """The runtime is found by the model's class."""
    assert Runtimes().choose(case.model) == case.name


def check_predictions_are_the_models_own(case: RuntimeCase) -> None:
    """Saved and loaded again, the model answers as before."""
    predictions = _saved(case).predict(case.rows)
    assert predictions.dtype == np.float64
    assert predictions.shape == np.shape(case.expected)
    np.testing.assert_allclose(predictions, case.expected, rtol=1e-5, atol=1e-6)


def check_one_row_is_answered_as_in_a_batch(case: RuntimeCase) -> None:
    """A row's prediction does not depend on the rows beside it."""
    predictor = _saved(case)
    batch = predictor.predict(case.rows)
    singles = [predictor.predict(case.rows[index : index + 1])[0] for index in range(min(10, len(case.rows)))]
    np.testing.assert_allclose(singles, batch[: len(singles)], rtol=1e-5, atol=1e-6)


def check_rows_yielded_are_those_of_a_batch(case: RuntimeCase) -> None:
    """A model that yields gives each row what it gives it in a batch."""
    predictor = _saved(case)
    form = each_form(predictor)
    if form is not None:
        yielded = np.concatenate(list(form(case.rows)))
        np.testing.assert_array_equal(yielded, predictor.predict(case.rows))


def check_columns_are_found_by_name(case: RuntimeCase) -> None:
    """Columns are found by name, and further ones are ignored."""
    predictor = _saved(case)
    mixed = case.rows.select(reversed(case.rows.columns)).with_columns(pl.lit("x").alias("another column"))
    np.testing.assert_array_equal(predictor.predict(mixed), predictor.predict(case.rows))


def check_a_missing_feature_is_named(case: RuntimeCase) -> None:
    """A row without a feature is refused, and the feature is named."""
    name = case.signature.features.names[0]
    try:
        _saved(case).predict(case.rows.drop(name))
    except SchemaMismatchError as error:
        assert repr(name) in str(error)
    else:
        raise AssertionError("a missing feature was not refused")


def check_nothing_is_warned_of(case: RuntimeCase) -> None:
    """Loading and predicting say nothing: no warnings of feature names, types or versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _saved(case).predict(case.rows[:1])


def check_several_threads_get_the_same_answers(case: RuntimeCase) -> None:
    """One predictor serves several threads."""
    predictor = _saved(case)
    expected = predictor.predict(case.rows)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(predictor.predict(case.rows) for _ in range(5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def check_the_authors_model_comes_back(case: RuntimeCase) -> None:
    """The project's own code gets a model of the class that it made."""
    with tempfile.TemporaryDirectory() as folder:
        _save(case, Path(folder))
        loaded = Runtimes().get(case.name).load(Path(folder))
    assert type(loaded).__name__ == type(case.model).__name__


def check_another_process_can_load_it(case: RuntimeCase) -> None:
    """A process that has not imported the project answers the same."""
    script = (
        "import pickle, sys; from pathlib import Path\n"
        "from flyball.domain.registry.runtimes import Runtimes\n"
        "name, folder, signature, rows = pickle.loads(sys.stdin.buffer.read())\n"
        "predictions = Runtimes().get(name).predictor(Path(folder), signature).predict(rows)\n"
        "sys.stdout.buffer.write(pickle.dumps(predictions))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        _save(case, Path(folder))
        asked = pickle.dumps((case.name, folder, case.signature, case.rows))
        ran = subprocess.run([sys.executable, "-c", script], input=asked, capture_output=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr.decode()
    np.testing.assert_allclose(pickle.loads(ran.stdout), case.expected, rtol=1e-5, atol=1e-6)


def check_attributions_sum_to_predictions(case: RuntimeCase) -> None:
    """What each feature added, and the base value, give the prediction on the scale that is named."""
    rows = case.rows.head(20)
    runtime = Runtimes().get(case.name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries that explain import others that warn
        _save(case, Path(folder))
        predictor = runtime.predictor(Path(folder), case.signature)
        explainer = open_explainer(runtime, Path(folder), case.signature, case.rows, predictor)
        found = explainer.explain(rows)
    assert found.values.shape == (len(rows), len(case.signature.features.names))
    expected = predictor.predict(rows)
    sums = found.values.sum(axis=1) + found.base
    if found.classes is not None:
        if explainer.scale is Scale.LOG_ODDS:
            return  # only with the sums of all classes: that they fit was proven when it was opened
        expected = expected[np.arange(len(rows)), found.classes]
    elif explainer.scale is Scale.LOG_ODDS:
        sums = 1 / (1 + np.exp(-sums))
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-4)


RUNTIME_CHECKS: Sequence[Callable[[RuntimeCase], None]] = (
    check_it_is_chosen_for_its_models,
    check_predictions_are_the_models_own,
    check_one_row_is_answered_as_in_a_batch,
    check_rows_yielded_are_those_of_a_batch,
    check_columns_are_found_by_name,
    check_a_missing_feature_is_named,
    check_nothing_is_warned_of,
    check_several_threads_get_the_same_answers,
    check_the_authors_model_comes_back,
    check_another_process_can_load_it,
    check_attributions_sum_to_predictions,
)


def _save(case: RuntimeCase, folder: Path) -> None:
    Runtimes().get(case.name).save(case.model, folder, case.signature, case.rows)


def _saved(case: RuntimeCase) -> Predictor:
    with tempfile.TemporaryDirectory() as folder:
        _save(case, Path(folder))
        return Runtimes().get(case.name).predictor(Path(folder), case.signature)
