"""Where files of runs and of logged models lie, and which addresses name them."""

import re
from urllib.parse import unquote

import msgspec

from flyball.core.errors import InvalidInputError, NotFoundError

SCHEME = "mlflow-artifacts:"
MAX_PATH_BYTES = 2_000
"""What an index of either database takes of a path, with some room."""
SEALED = "v-"
"""What the ids of registered versions begin with; their files stay as they were registered."""
_ROOT = "artifacts"
# An id of a run or of a logged model: Flyball's own, and those that clients make.
_OWNER = re.compile(r"[0-9a-hjkmnp-tv-z]{26}|(?:[a-z]{1,3}-)?[0-9a-f]{32}")
_MOST_DECODINGS = 10


class ArtifactPathError(InvalidInputError):
    """A path of an artifact leads out of its place, or cannot be kept."""

    code = "tracking/artifact-path"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"Invalid path {path[:200]!r}: {reason}", hint="Give a relative path with slashes, such as plots/roc.png."
        )


class ArtifactNotFoundError(NotFoundError):
    """There is no such artifact."""

    code = "tracking/artifact-not-found"

    def __init__(self, path: str, reason: str = "there is no such file") -> None:
        super().__init__(f"No such artifact: {path!r}: {reason}")


class Place(msgspec.Struct, frozen=True):
    """A file or a folder: whose it is, and its path there.

    Attributes:
        owner: The id of a run or a logged model; empty for addresses of another shape.
        path: Below it; empty for all of it.
    """

    owner: str
    path: str = ""

    @property
    def folder(self) -> str:
        """The path without its last segment."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The last segment."""
        return self.path.rpartition("/")[2]

    def below(self, path: str) -> "Place":
        """Return what lies further down."""
        return Place(self.owner, "/".join(part for part in (self.path, path) if part))


class ArtifactFile(msgspec.Struct, frozen=True):
    """A file that is kept.

    Attributes:
        digest: Its SHA-256, under which the bytes lie among the blobs.
    """

    place: Place
    digest: str
    size_bytes: int


class Entry(msgspec.Struct, frozen=True):
    """What a folder holds: a file with its size, or a folder (None)."""

    name: str
    size_bytes: int | None


def check_path(path: str) -> str:
    """Return a path of an artifact in its plain form: no doubled slashes, none at its ends.

    Raises:
        ArtifactPathError: It is absolute, has ``..``, a backslash or a control character (also once it is decoded
            again, as some clients encode twice), or is too long.
    """
    # A name may hold a plain percent sign; what it would decode to is only looked at.
    decoded = path
    for _ in range(_MOST_DECODINGS):
        again = unquote(decoded)
        if again == decoded:
            break
        decoded = again
    else:
        raise ArtifactPathError(path, "it is encoded too often")
    for text in (path, decoded):
        if text.startswith("/") or re.match(r"[A-Za-z]:", text):
            raise ArtifactPathError(path, "it is absolute")
        if "\\" in text:
            raise ArtifactPathError(path, "it has a backslash")
        if any(sign < " " or sign == "\x7f" for sign in text):
            raise ArtifactPathError(path, "it has a control character")
        if ".." in text.split("/"):
            raise ArtifactPathError(path, "it has a segment '..'")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise ArtifactPathError(path, "it is not Unicode") from None
    if size > MAX_PATH_BYTES:
        raise ArtifactPathError(path, f"it is longer than {MAX_PATH_BYTES} bytes")
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def check_name(path: str) -> str:
    """Return a path that names a file. See `check_path`.

    Raises:
        ArtifactPathError: It names none, or leads out of its place.
    """
    found = check_path(path)
    if not found:
        raise ArtifactPathError(path, "it names no file")
    return found


def parse_place(address: str) -> Place:
    """Return what an address names.

    Args:
        address: ``mlflow-artifacts:/1/RUN/artifacts/model``, ``mlflow-artifacts:/1/models/MODEL/artifacts``, the same
            with a host, or the part behind the scheme.

    Raises:
        ArtifactPathError: It is of another scheme, or its path cannot be kept.
    """
    path = address
    if address.startswith(SCHEME):
        path = re.sub(r"^//[^/]*", "", address[len(SCHEME) :]).lstrip("/")
    elif re.match(r"[a-z0-9+.-]+:/", address):
        raise ArtifactPathError(address, f"only addresses that begin with {SCHEME}/ are kept here")
    parts = check_path(path).split("/")
    for position in range(1, len(parts)):
        if parts[position] == _ROOT and _OWNER.fullmatch(parts[position - 1]):
            return Place(parts[position - 1], "/".join(parts[position + 1 :]))
    return Place("", "/".join(parts))


def is_kept_here(address: str) -> bool:
    """Tell whether what lies at an address is kept by Flyball, rather than where the client put it."""
    return address.startswith(f"{SCHEME}/")
