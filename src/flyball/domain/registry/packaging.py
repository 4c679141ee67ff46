"""Builds a package: every file of it, or nothing."""

import errno
import os
import platform
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flyball.core.encoding import to_json
from flyball.core.files import DiskFullError, building_folder, sync_folder
from flyball.core.hashing import digest_bytes
from flyball.core.processes import is_running
from flyball.domain.data.profiles import Profile
from flyball.domain.data.rules import Rule, encode_rules
from flyball.domain.registry import packages as files
from flyball.domain.registry.cards import CardFacts, write_card, write_mlmodel
from flyball.domain.registry.explaining import attribute_rows, open_explainer
from flyball.domain.registry.forms import prove_onnx
from flyball.domain.registry.packages import FeaturePlan, Manifest, Package, list_files, open_package
from flyball.domain.registry.projects import ProjectSource
from flyball.domain.registry.reference import ReferenceProfile, prediction_frame, sample_rows
from flyball.domain.registry.runtimes import Predictor, Runtimes
from flyball.domain.registry.signatures import Signature
from flyball.domain.tracking.distributions import installed_distributions
from flyball.version import __version__

if TYPE_CHECKING:
    pass

# On fewer held-out rows the profile of predictions would be mostly chance.
_FEWEST_HELD_OUT = 100
_UNFINISHED = re.compile(r"\.+(\d+)-[0-9a-f]+")
"""The folders that packages are built in begin with the number of their process."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a package.

    Attributes:
        model_name: The model's name in the registry.
        model: The fitted model.
        signature: What it takes and gives.
        training: The rows it was trained on: features and label.
        held_out: Rows it was evaluated on, if there are such.
        features: How a live request becomes features.
        rules: What must hold of a request.
        source: The project's code.
        card: What the model card tells.
        with_attributions: Whether the profile shall tell what each feature added to predictions.
    """

    model_name: str
    model: Any
    signature: Signature
    training: Any
    held_out: Any = None
    features: FeaturePlan
    rules: tuple[Rule, ...]
    source: ProjectSource
    card: CardFacts
    with_attributions: bool = False


def build_package(root: Path, contents: Contents, runtimes: Runtimes) -> Package:
    """Write a package under the folder of all packages and open it.

    It is built beside its place and appears there, under its digest, when it is whole. The same contents make the
    same package, which is then kept once.

    Raises:
        NotAModelError: What was given as a model cannot predict.
        ModelNotSavedError: The model cannot be written, or not be used once it is loaded again.
        DiskFullError: No space is left; nothing remains.
    """
    _remove_abandoned(root)
    unfinished = root / f".{os.getpid()}-{os.urandom(6).hex()}"
    try:
        with building_folder(unfinished) as folder:
            manifest = to_json(_fill(folder, contents, runtimes), indent=2)
            (folder / files.MANIFEST).write_bytes(manifest)
        package = root / digest_bytes(manifest)
        if package.exists():
            os.utime(package)  # it is used now, so `flyball gc` leaves it until a version names it
            shutil.rmtree(unfinished)
        else:
            unfinished.replace(package)
            sync_folder(root)
    except DiskFullError as error:
        raise DiskFullError(root / f"the package of {contents.model_name}") from error
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(root / f"the package of {contents.model_name}") from error
        raise
    return open_package(package)


def _remove_abandoned(root: Path) -> None:
    """Remove what processes that are gone were building."""
    for path in root.glob(".*"):
        builder = _UNFINISHED.match(path.name)
        if builder is not None and not is_running(int(builder[1])):
            shutil.rmtree(path, ignore_errors=True)


def _fill(folder: Path, contents: Contents, runtimes: Runtimes) -> Manifest:
    import polars as pl

    signature = contents.signature
    columns = [*signature.features.names, signature.label]
    reference = sample_rows(contents.training.select(columns))
    runtime = runtimes.choose(contents.model)
    kind = type(contents.model).__name__
    (folder / files.MODEL).mkdir()
    runtimes.get(runtime).save(contents.model, folder / files.MODEL, signature, reference)
    # The model is read back, so that what is served is what was measured.
    predictor = runtimes.get(runtime).predictor(folder / files.MODEL, signature)
    onnx = prove_onnx(
        folder / files.ONNX_FOLDER, contents.model, signature, contents.training, predictor, runtime, runtimes
    )

    with BytesIO() as buffer:
        reference.with_columns(pl.col(name).cast(pl.String) for name in signature.categories).write_ipc(buffer)
        (folder / files.REFERENCE).write_bytes(buffer.getvalue())
    profile = _profile(contents, predictor)
    if contents.with_attributions:
        explainer = open_explainer(runtimes.get(runtime), folder / files.MODEL, signature, reference, predictor)
        names = signature.features.names
        attributions = Profile.of(attribute_rows(explainer, reference, names), names)
        profile = msgspec.structs.replace(profile, attributions=attributions)
    versions = installed_distributions()
    pins = "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))
    _write_source(folder / files.SOURCE, contents.source)
    manifest = Manifest(
        model=contents.model_name,
        runtime=runtime,
        kind=kind,
        onnx=onnx,
        module=contents.source.module,
        python=platform.python_version(),
        flyball=__version__,
        files={},
    )
    card = write_card(manifest, signature, contents.features, contents.rules, contents.card)
    for name, data in {
        files.SIGNATURE: to_json(signature, indent=2),
        files.PROFILE: to_json(profile, indent=2),
        files.EXPECTATIONS: encode_rules(contents.rules),
        files.FEATURES: to_json(contents.features, indent=2),
        files.ENVIRONMENT: pins.encode(),
        files.CARD: card.encode(),
        files.MLMODEL: write_mlmodel(manifest, signature, versions),
    }.items():
        (folder / name).write_bytes(data)
    return msgspec.structs.replace(manifest, files=list_files(folder))


def _profile(contents: Contents, predictor: Predictor) -> ReferenceProfile:
    signature = contents.signature
    held_out = contents.held_out
    is_held_out = held_out is not None and len(held_out) >= _FEWEST_HELD_OUT
    answered = prediction_frame(signature, predictor.predict(held_out if is_held_out else contents.training))
    return ReferenceProfile(
        features=Profile.of(contents.training, signature.features.names),
        predictions=Profile.of(answered, answered.columns),
        label=Profile.of(contents.training, [signature.label]),
        is_held_out=is_held_out,
    )


def _write_source(folder: Path, source: ProjectSource) -> None:
    folder.mkdir()
    for name, data in source.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
