"""Packages: plain files that say everything, checked byte by byte, whole or absent."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from tests.domain.registry.projects import ALL, NUMBERS, make_rows, make_source, make_training_set
from tests.peers import peer_python

from flyball.core.errors import NotFoundError
from flyball.core.files import DiskFullError
from flyball.core.hashing import digest_file
from flyball.domain.data.schemas import Schema
from flyball.domain.registry import forms
from flyball.domain.registry.cards import CardFacts
from flyball.domain.registry.gates import ModelGates, metric
from flyball.domain.registry.packages import FeaturePlan, Package, PackageDamagedError, ViewUse, open_package
from flyball.domain.registry.packaging import Contents, build_package
from flyball.domain.registry.reference import PREDICTION, sample_rows
from flyball.domain.registry.runtimes import ModelNotSavedError, NotAModelError, Runtimes
from flyball.domain.registry.signatures import NoProbabilitiesError, SignatureError, infer_signature

ROWS = make_rows(1_500)


def with_columns() -> Any:
    encode = ColumnTransformer(
        [("n", StandardScaler(), list(NUMBERS)), ("t", OneHotEncoder(handle_unknown="ignore"), ["town"])]
    )
    return Pipeline([("encode", encode), ("model", LogisticRegression())])


MODELS: dict[str, tuple[Any, Sequence[str], str]] = {
    "logistic": (LogisticRegression(), NUMBERS, "defaulted"),
    "boosting": (HistGradientBoostingClassifier(max_iter=10), NUMBERS, "defaulted"),
    "columns": (with_columns(), ALL, "defaulted"),
    "regression": (HistGradientBoostingRegressor(max_iter=10), NUMBERS, "price"),
    "linear": (LinearRegression(), NUMBERS, "price"),
    "classes": (LogisticRegression(max_iter=1000), NUMBERS, "town"),
}


def make_contents(model: Any, features: Sequence[str] = NUMBERS, label: str = "defaulted", **changes: Any) -> Contents:
    contents = Contents(
        model_name="credit-risk",
        model=model,
        signature=infer_signature(model, ROWS, features, label),
        training=ROWS,
        features=FeaturePlan(
            spine="applications",
            request=Schema.of(ROWS.select("customer_id", "income")),
            keys=("customer_id",),
            time="applied_at",
            views=(ViewUse(name="payments", version="v1", ttl_us=180 * 86_400_000_000, keys=("customer_id",)),),
            request_features=("affordability",),
            features=tuple(features),
            label=make_training_set().lineage.label_rule,
        ),
        rules=make_source(Path()).expectations_of("applications"),
        source=make_source(Path()),
        card=CardFacts(
            description="Will this customer default?",
            rows=len(ROWS),
            lineage={"label": f"outcomes.{label}", "snapshot of applications": "aaaa"},
            metrics={"auc": 0.81},
            plan=ModelGates(gates=(metric("auc") >= 0.7,), approval="risk-officer"),
        ),
    )
    return msgspec.structs.replace(contents, **changes)


def fit(name: str) -> tuple[Any, Sequence[str], str]:
    model, features, label = MODELS[name]
    return model.fit(ROWS.select(features), ROWS[label]), features, label


@pytest.fixture
def package(tmp_path: Path) -> Package:
    model, features, label = fit("logistic")
    return build_package(tmp_path / "packages", make_contents(model, features, label), Runtimes())


def test_a_package_is_plain_files(package: Package) -> None:
    names = {path.relative_to(package.path).as_posix() for path in package.path.rglob("*") if path.is_file()}
    assert names - {"onnx/model.onnx"} == {
        "manifest.json",
        "signature.json",
        "model/model.pkl",
        "model/facts.json",
        "profile.json",
        "expectations.json",
        "features.json",
        "environment.txt",
        "source/project.py",
        "source/parts/more.py",
        "reference.arrow",
        "card.md",
        "MLmodel",
    }
    assert digest_file(package.path / "manifest.json") == package.path.name == package.digest
    manifest = json.loads((package.path / "manifest.json").read_bytes())
    assert set(manifest["files"]) == names - {"manifest.json"}
    for name, entry in manifest["files"].items():
        assert digest_file(package.path / name) == entry["sha256"]
        assert (package.path / name).stat().st_size == entry["size_bytes"]


def test_a_package_says_what_it_holds(package: Package) -> None:
    opened = open_package(package.path)
    assert (opened.manifest.runtime, opened.manifest.kind) == ("sklearn", "LogisticRegression")
    signature = opened.signature
    assert signature.features.names == ["income", "age"]
    assert [field.dtype for field in signature.features.fields] == ["float", "int"]
    assert (signature.task, signature.classes) == ("binary", (False, True))
    assert signature.output == "the probability of the positive class, True"
    assert opened.features.views[0].ttl_us == 180 * 86_400_000_000
    assert opened.features.label is not None
    assert opened.features.label.keys == ("customer_id",)
    assert [rule.demand for rule in opened.expectations] == ["must not be null", "must be between 0 and 10000000"]
    assert (opened.source / "parts" / "more.py").read_bytes() == b"MORE = 2\n"
    pins = (opened.path / "environment.txt").read_text()
    assert f"polars=={pl.__version__}\n" in pins


def test_the_reference_is_a_sample_of_at_most_a_thousand_rows(package: Package) -> None:
    reference = package.reference()
    assert reference.columns == ["income", "age", "defaulted"]
    assert len(reference) == 1_000
    assert sample_rows(ROWS).equals(sample_rows(ROWS))
    assert len(sample_rows(ROWS[:10])) == 10


def test_the_card_is_for_people(package: Package) -> None:
    card = (package.path / "card.md").read_text()
    for part in (
        "# credit-risk",
        "Will this customer default?",
        "Trained on 1,500 rows",
        "| `age` | int | no |",
        "| auc | 0.81 |",
        "auc >= 0.7",
        "Approval: risk-officer.",
        "`income` must be between 0 and 10000000",
        "Feature view `payments` by customer_id, at most 180d old",
        "Served as ",
    ):
        assert part in card, part


def test_the_same_contents_are_the_same_package(tmp_path: Path) -> None:
    model, features, label = fit("logistic")
    root = tmp_path / "packages"
    first, second = (build_package(root, make_contents(model, features, label), Runtimes()) for _ in range(2))
    assert first.digest == second.digest
    assert [path.name for path in root.iterdir()] == [first.digest]


@pytest.mark.parametrize("name", MODELS)
def test_a_package_answers_as_the_model_does(tmp_path: Path, name: str) -> None:
    model, features, label = fit(name)
    package = build_package(tmp_path, make_contents(model, features, label), Runtimes())
    frame = ROWS.select(features)
    expected = model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame)
    if package.signature.task == "binary":
        expected = expected[:, 1]
    np.testing.assert_allclose(package.load_predictor(Runtimes()).predict(ROWS), expected, rtol=1e-5, atol=1e-6)
    assert type(package.load_model(Runtimes())) is type(model)


def test_the_profile_counts_features_predictions_and_label(tmp_path: Path) -> None:
    model, features, label = fit("classes")
    package = build_package(tmp_path, make_contents(model, features, label), Runtimes())
    assert set(package.profile.features.columns) == {"income", "age"}
    assert set(package.profile.predictions.columns) == {PREDICTION}
    assert set(package.profile.label.columns) == {"town"}
    assert not package.profile.is_held_out


def test_predictions_are_profiled_on_rows_the_model_has_not_seen(tmp_path: Path) -> None:
    model, features, label = fit("logistic")
    contents = make_contents(model, features, label, held_out=make_rows(400, seed=9))
    assert build_package(tmp_path, contents, Runtimes()).profile.is_held_out
    few = make_contents(model, features, label, held_out=make_rows(20, seed=9))
    assert not build_package(tmp_path, few, Runtimes()).profile.is_held_out


def test_onnx_is_there_only_when_it_is_proven(package: Package) -> None:
    state = package.manifest.onnx
    assert (package.path / "onnx" / "model.onnx").exists() == state.is_proven
    assert "\n" not in state.reason
    assert 0 < len(state.reason) <= 120
    if not Runtimes().is_installed("onnx"):
        assert state.reason == "the runtime 'onnx' needs the package 'onnxruntime', which is not installed"


def test_what_onnx_cannot_do_is_contained_and_told(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx")
    logistic, boosting = (
        build_package(tmp_path, make_contents(model, features, label), Runtimes())
        for model, features, label in (fit("logistic"), fit("boosting"))
    )
    assert logistic.manifest.onnx.is_proven
    assert re.match(r"float64: every one of [\d,]+ training rows agrees", logistic.manifest.onnx.reason)
    assert type(logistic.load_predictor(Runtimes())).__name__ == "OnnxPredictor"
    if not boosting.manifest.onnx.is_proven:  # some releases of the converter cannot do it
        assert not (boosting.path / "onnx").exists()
        assert type(boosting.load_predictor(Runtimes())).__name__ == "SklearnPredictor"


def test_the_form_that_is_much_slower_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skl2onnx")
    monkeypatch.setattr(forms, "_MUCH_FASTER", 0.0)
    package = build_package(tmp_path, make_contents(*fit("logistic")), Runtimes())
    assert (package.manifest.onnx.is_proven, package.manifest.onnx.is_served) == (True, False)
    assert "much faster" in package.manifest.onnx.reason
    assert type(package.load_predictor(Runtimes())).__name__ == "SklearnPredictor"


class Liar:
    """A converter that gives a graph of another model, or raises what no converter should."""

    precisions = ("float64", "float32")

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    def convert(self, model: Any, folder: Path, *_: Any) -> None:
        (folder / "model.onnx").write_bytes(b"lies")
        if self._error:
            raise self._error

    def predictor(self, folder: Path, signature: Any) -> "Liar":
        return self

    def predict(self, frame: pl.DataFrame) -> Any:
        return np.zeros(len(frame))


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "predictions differ from the model's by up to"), (SystemError("many\nlines " * 50), "SystemError: many")],
)
def test_onnx_that_answers_otherwise_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, reason: str
) -> None:
    runtimes = Runtimes()
    monkeypatch.setitem(runtimes._made, "onnx", Liar(error))
    package = build_package(tmp_path, make_contents(*fit("logistic")), runtimes)
    assert not package.manifest.onnx.is_proven
    assert package.manifest.onnx.reason.startswith(reason)
    assert len(package.manifest.onnx.reason) <= 120
    assert not (package.path / "onnx").exists()


# What is refused


@pytest.mark.parametrize("name", ["model/model.pkl", "signature.json", "source/project.py", "manifest.json"])
def test_a_changed_byte_is_found(package: Package, name: str) -> None:
    data = bytearray((package.path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (package.path / name).write_bytes(data)
    with pytest.raises(PackageDamagedError, match=f"{name} was changed"):
        open_package(package.path)


def test_missing_and_added_files_are_found(package: Package) -> None:
    (package.path / "source" / "extra.py").write_text("import os")
    with pytest.raises(PackageDamagedError, match=r"source/extra.py was added"):
        open_package(package.path)
    (package.path / "source" / "extra.py").unlink()
    (package.path / "card.md").unlink()
    with pytest.raises(PackageDamagedError, match=r"card.md is missing"):
        open_package(package.path)


def test_a_package_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no package"):
        open_package(tmp_path / ("0" * 64))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModelError, match="a dict was given as a model"):
        build_package(tmp_path, make_contents({"weights": [1]}), Runtimes())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_pickled_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    class Holder:
        def __init__(self) -> None:
            self.numbers = (number for number in range(3))

        def predict(self, frame: pl.DataFrame) -> list[float]:
            return [0.5] * len(frame)

    with pytest.raises(ModelNotSavedError, match=r"Holder.*generator"):
        build_package(tmp_path, make_contents(Holder()), Runtimes())
    assert list(tmp_path.iterdir()) == []


def test_a_classifier_without_probabilities_is_told_how_to_get_them() -> None:
    model = LinearSVC().fit(ROWS.select(NUMBERS), ROWS["defaulted"])
    with pytest.raises(NoProbabilitiesError, match="CalibratedClassifierCV"):
        infer_signature(model, ROWS, NUMBERS, "defaulted")


def test_a_model_of_other_columns_is_refused() -> None:
    model = LogisticRegression().fit(ROWS.select("income", pl.col("age").alias("years")), ROWS["defaulted"])
    with pytest.raises(SignatureError, match="'years', which the data does not have"):
        infer_signature(model, ROWS, NUMBERS, "defaulted")
    model = LogisticRegression().fit(ROWS.select(NUMBERS).to_numpy(), ROWS["defaulted"])
    with pytest.raises(SignatureError, match="was fitted on 2 columns, but the data has 1 features: income"):
        infer_signature(model, ROWS, ["income"], "defaulted")


def test_features_that_the_model_does_not_use_are_no_part_of_its_signature() -> None:
    model = LogisticRegression().fit(ROWS.select("age"), ROWS["defaulted"])
    assert infer_signature(model, ROWS, ALL, "defaulted").features.names == ["age"]


@pytest.mark.parametrize(
    ("label", "task", "classes"),
    [
        ([0, 1, 1], "binary", (0, 1)),
        ([0.5, 1.0, 2.0], "regression", ()),
        ([1, 2, 3], "regression", ()),
        (["no", "yes", "no"], "binary", ("no", "yes")),
        (["a", "b", "c"], "multiclass", ("a", "b", "c")),
        ([True, False, None], "binary", (False, True)),
    ],
)
def test_the_task_of_a_plain_model_is_told_by_its_label(label: list[Any], task: str, classes: tuple[Any, ...]) -> None:
    class Plain:
        def predict(self, frame: pl.DataFrame) -> list[float]:
            return [0.5] * len(frame)

    signature = infer_signature(Plain(), pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": label}), ["x"], "y")
    assert (signature.task, signature.classes) == (task, classes)


# A full disk


def count_writes(root: Path) -> int:
    """Return how many files a package of the logistic model has, besides those of libraries."""
    package = build_package(root, make_contents(*fit("logistic")), Runtimes())
    return len(package.manifest.files) + 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_whichever_file_finds_the_disk_full_nothing_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    contents = make_contents(*fit("logistic"))
    root = tmp_path / "packages"
    write, written = Path.write_bytes, 0

    def write_until_full(path: Path, data: Any) -> int:
        nonlocal written
        written += 1
        if written == full_at:
            write(path, bytes(data)[: len(data) // 2])
            raise OSError(code, os.strerror(code), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    for full_at in range(1, 12):
        written = 0
        with pytest.raises(DiskFullError, match="credit-risk"):
            build_package(root, contents, Runtimes())
        assert list(root.iterdir()) == [], full_at
    full_at = 0
    assert build_package(root, contents, Runtimes()).path.is_dir()


def test_a_limit_of_the_kernel_leaves_nothing(tmp_path: Path) -> None:
    """A real refusal to write, by RLIMIT_FSIZE in a process of its own: no privilege is needed."""
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from test_packages import *\n"
        "contents = make_contents(*fit('boosting'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "try:\n"
        "    build_package(Path(sys.argv[1]), contents, Runtimes())\n"
        "except DiskFullError as error:\n"
        "    print(error.message)\n"
    )
    root = tmp_path / "packages"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("no space is left to write 'the package of credit-risk'"), ran.stderr
    assert list(root.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_what_a_killed_process_was_building_is_removed_by_the_next_one(tmp_path: Path) -> None:
    root = tmp_path / "packages"
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from test_packages import *\n"
        "contents = make_contents(*fit('logistic'))\n"
        "Path.write_bytes = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "build_package(Path(sys.argv[1]), contents, Runtimes())\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", script, str(root)], env={**os.environ, "PYTHONPATH": paths}, check=False)
    [left] = root.iterdir()
    busy = root / f".{os.getpid()}-0123"
    busy.mkdir()
    package = build_package(root, make_contents(*fit("logistic")), Runtimes())
    assert left.name.startswith(".")
    assert sorted(root.iterdir()) == sorted([package.path, busy])


# MLflow


@pytest.mark.slow
def test_mlflow_loads_a_package(tmp_path: Path) -> None:
    python = peer_python("mlflow")
    script = (
        "import sys, json, warnings; warnings.simplefilter('ignore')\n"
        "import mlflow.pyfunc, mlflow.sklearn, pandas\n"
        "frame = pandas.DataFrame(json.loads(sys.argv[2]))\n"
        "answers = mlflow.pyfunc.load_model(sys.argv[1]).predict(frame)\n"
        "print(json.dumps([answers.tolist(), type(mlflow.sklearn.load_model(sys.argv[1])).__name__]))\n"
    )
    model, features, label = fit("columns")
    package = build_package(tmp_path, make_contents(model, features, label), Runtimes())
    ran = subprocess.run(
        [python, "-c", script, str(package.path), ROWS.select(features)[:5].write_json()],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answers, kind = json.loads(ran.stdout.splitlines()[-1])
    np.testing.assert_allclose(answers, model.predict_proba(ROWS.select(features)[:5]))
    assert kind == "Pipeline"
