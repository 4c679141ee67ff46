"""A package: a folder of plain files that holds everything a model needs to be served, explained and restored."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from flyball.core.encoding import from_json
from flyball.core.errors import BackendError, NotFoundError
from flyball.core.hashing import digest_file, shorten
from flyball.domain.data.profiles import Profile
from flyball.domain.data.rules import Rule, decode_rules
from flyball.domain.data.schemas import Schema
from flyball.domain.features.labels import LabelRule
from flyball.domain.registry.explaining import Explainer, attribute_rows, open_explainer
from flyball.domain.registry.reference import ReferenceProfile
from flyball.domain.registry.runtimes import ONNX, Predictor, Runtimes
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
MODEL = "model"
ONNX_FOLDER = "onnx"
PROFILE = "profile.json"
EXPECTATIONS = "expectations.json"
FEATURES = "features.json"
ENVIRONMENT = "environment.txt"
SOURCE = "source"
REFERENCE = "reference.arrow"
CARD = "card.md"
MLMODEL = "MLmodel"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a package."""

    size_bytes: int
    sha256: str


class OnnxState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the package holds the model as ONNX too, and if not, why.

    Attributes:
        is_proven: Whether ONNX gives the same predictions on every row of a sample of the training rows.
        reason: One short line.
        max_difference: The largest difference on the sample.
        is_served: Whether it is what answers requests, where ONNX Runtime is installed.
    """

    is_proven: bool
    reason: str
    max_difference: float | None = None
    is_served: bool = True


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a package holds; the SHA-256 of this file is the package's digest.

    Attributes:
        format: The layout's number.
        model: The model's name.
        runtime: Which runtime runs the files under ``model/``.
        kind: The class of the model, for people.
        onnx: Whether the files under ``onnx/`` may be run instead.
        module: The name of the project file's module under ``source/``.
        python: The version of Python it was made with.
        flyball: The version of Flyball it was made with.
        files: Every other file, by path.
    """

    format: int = FORMAT
    model: str
    runtime: str
    kind: str
    onnx: OnnxState
    module: str = "project"
    python: str
    flyball: str
    files: dict[str, FileEntry]


class ViewUse(msgspec.Struct, frozen=True, kw_only=True):
    """A feature view as the model was trained with it."""

    name: str
    version: str
    ttl_us: int | None = None
    keys: tuple[str, ...] = ()


class FeaturePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a live request becomes the model's features.

    Attributes:
        spine: The table whose rows are the requests.
        request: The fields of a request.
        keys: Those of them that name the entity or the row.
        time: The one that says when it is about; absent in a request, it is now.
        views: What is looked up by the entity's keys.
        request_features: What is computed from the request alone, by name.
        features: The model's features in order.
        label: How labels are matched to predictions.
        entity: Those key columns that name whom a row is about, and thereby its variant; None where only the package's
            source tells.
        row_key: Those that name the row itself; None with ``entity``.
    """

    spine: str = ""
    request: Schema = Schema()
    keys: tuple[str, ...] = ()
    time: str | None = None
    views: tuple[ViewUse, ...] = ()
    request_features: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    label: LabelRule | None = None
    entity: tuple[str, ...] | None = None
    row_key: tuple[str, ...] | None = None


class PackageDamagedError(BackendError):
    """A package is not what the registry made, so nothing of it is loaded."""

    code = "registry/package-damaged"

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(
            f"the package {shorten(digest)} is damaged: {reason}",
            hint="Restore its folder from a backup of the home, or train the model again.",
        )


class Package:
    """An opened package whose files were all checked.

    Attributes:
        path: Its folder.
        digest: Its name: the digest of its manifest.
        manifest: What it holds.
    """

    def __init__(self, path: Path, digest: str, manifest: Manifest) -> None:
        self.path = path
        self.digest = digest
        self.manifest = manifest

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._read(SIGNATURE, Signature)

    @property
    def features(self) -> FeaturePlan:
        """How a request becomes features."""
        return self._read(FEATURES, FeaturePlan)

    @property
    def expectations(self) -> list[Rule]:
        """What must hold of a request."""
        return decode_rules((self.path / EXPECTATIONS).read_bytes())

    @property
    def profile(self) -> ReferenceProfile:
        """The distributions that live traffic is compared with."""
        return self._read(PROFILE, ReferenceProfile)

    @property
    def source(self) -> Path:
        """The folder with the project's code as it was."""
        return self.path / SOURCE

    def reference(self) -> "pl.DataFrame":
        """Return a sample of the training rows: features and label, at most 1,000."""
        import polars as pl

        return pl.read_ipc((self.path / REFERENCE).read_bytes())

    def load_model(self, runtimes: Runtimes) -> Any:
        """Return the model as its author knows it."""
        return runtimes.get(self.manifest.runtime).load(self.path / MODEL)

    def load_predictor(self, runtimes: Runtimes) -> Predictor:
        """Return the model ready for requests: as ONNX where that is proven and installed, else natively."""
        runtime, folder = self._served(runtimes)
        return runtimes.get(runtime).predictor(self.path / folder, self.signature)

    def served_bytes(self, runtimes: Runtimes) -> int:
        """Return how large the files are that `load_predictor` reads."""
        _, folder = self._served(runtimes)
        files = self.manifest.files.items()
        return sum(entry.size_bytes for name, entry in files if name.startswith(f"{folder}/"))

    def _served(self, runtimes: Runtimes) -> tuple[str, str]:
        """Return which runtime answers, and with which folder."""
        onnx, runtime = self.manifest.onnx, self.manifest.runtime
        if onnx.is_proven and onnx.is_served and runtime != ONNX and runtimes.is_installed(ONNX):
            return ONNX, ONNX_FOLDER
        return runtime, MODEL

    def profile_attributions(self, explainer: Explainer) -> Profile:
        """Return the distributions of attributions on the reference sample, kept or computed now."""
        kept = self.profile.attributions
        if kept is not None:
            return kept
        names = self.signature.features.names
        return Profile.of(attribute_rows(explainer, self.reference(), names), names)

    def load_explainer(self, runtimes: Runtimes, predictor: Predictor) -> Explainer:
        """Return what tells which feature added what to the predictions of a predictor of this package."""
        runtime = runtimes.get(self.manifest.runtime)
        return open_explainer(runtime, self.path / MODEL, self.signature, self.reference(), predictor)

    def _read(self, name: str, type_: type[T]) -> T:
        return from_json((self.path / name).read_bytes(), type_, what=f"{name} of package {shorten(self.digest)}")


def open_package(path: Path) -> Package:
    """Open a package's folder, which is named by its digest, and check every byte of it.

    Raises:
        NotFoundError: There is no such folder.
        PackageDamagedError: A file is missing, was changed or was added.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise NotFoundError(
            f"there is no package {shorten(path.name)} in {str(path.parent)!r}",
            hint="Restore it from a backup of the home, or train the model again.",
        )
    if digest_file(manifest_path) != path.name:
        raise PackageDamagedError(path.name, f"{MANIFEST} was changed")
    manifest = from_json(manifest_path.read_bytes(), Manifest, what=f"{MANIFEST} of package {shorten(path.name)}")
    if manifest.format > FORMAT:
        raise PackageDamagedError(path.name, f"its format {manifest.format} is newer than this release knows")
    _check_files(path, manifest)
    return Package(path, path.name, manifest)


def list_files(path: Path) -> dict[str, FileEntry]:
    """Return every file of a folder but the manifest, by its path inside the folder."""
    return {
        file.relative_to(path).as_posix(): FileEntry(size_bytes=file.stat().st_size, sha256=digest_file(file))
        for file in sorted(path.rglob("*"))
        if file.is_file() and file != path / MANIFEST
    }


def _check_files(path: Path, manifest: Manifest) -> None:
    found = list_files(path)
    for name, entry in manifest.files.items():
        if name not in found:
            raise PackageDamagedError(path.name, f"{name} is missing")
        if found[name] != entry:
            raise PackageDamagedError(path.name, f"{name} was changed")
    if added := sorted(set(found) - set(manifest.files)):
        raise PackageDamagedError(path.name, f"{added[0]} was added")
