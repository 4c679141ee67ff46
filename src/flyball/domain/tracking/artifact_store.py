"""The SQL of artifacts."""

from collections.abc import Sequence

from flyball.domain.tracking.artifacts import ArtifactFile, Place
from flyball.storage.db import Row, Transaction

_COLUMNS = "owner, folder, name, digest, size_bytes"
_FOLDERS = "SELECT DISTINCT folder FROM tracking_artifact WHERE owner = ?"
# Texts sort by their bytes in both databases, and the sign after the slash is a zero.
_BELOW = "folder >= ? AND folder < ?"


def put_file(tx: Transaction, file: ArtifactFile) -> None:
    """Keep which bytes a file has; a file that is there is replaced."""
    place = file.place
    tx.send(
        f"INSERT INTO tracking_artifact ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (owner, folder, name) DO UPDATE SET digest = excluded.digest, size_bytes = excluded.size_bytes",
        (place.owner, place.folder, place.name, file.digest, file.size_bytes),
    )


def copy_folder(tx: Transaction, place: Place, to_owner: str) -> None:
    """Give all files of a folder and below to a new owner too, by their paths in that folder."""
    where, params = _within(place)
    first_sign = len(place.path) + 2 if place.path else 1
    tx.send(
        f"INSERT INTO tracking_artifact ({_COLUMNS}) SELECT ?, substr(folder, ?), name, digest, size_bytes"
        f" FROM tracking_artifact WHERE {where}",
        (to_owner, first_sign, *params),
    )


def copy_all(tx: Transaction, from_owner: str, to_owner: str) -> None:
    """Give all files of one owner to another too."""
    tx.send(
        f"INSERT INTO tracking_artifact ({_COLUMNS}) SELECT ?, folder, name, digest, size_bytes FROM tracking_artifact"
        " WHERE owner = ?",
        (to_owner, from_owner),
    )


def find_file(tx: Transaction, place: Place) -> ArtifactFile | None:
    """Return one file."""
    row = tx.row(
        f"SELECT {_COLUMNS} FROM tracking_artifact WHERE owner = ? AND folder = ? AND name = ?",
        (place.owner, place.folder, place.name),
    )
    return None if row is None else _file(row)


def list_files(tx: Transaction, place: Place) -> list[ArtifactFile]:
    """Return the files right in a folder, by name."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM tracking_artifact WHERE owner = ? AND folder = ? ORDER BY name",
        (place.owner, place.path),
    )
    return [_file(row) for row in rows]


def list_folders(tx: Transaction, place: Place) -> list[str]:
    """Return the paths of all folders that hold files, below a folder at any depth."""
    if place.path:
        return [folder for (folder,) in tx.tuples(f"{_FOLDERS} AND {_BELOW}", (place.owner, *_bounds(place.path)))]
    return [folder for (folder,) in tx.tuples(f"{_FOLDERS} AND folder <> ''", (place.owner,))]


def has_below(tx: Transaction, place: Place) -> bool:
    """Tell whether a place is a folder."""
    where, params = _within(place)
    return tx.value(f"SELECT 1 FROM tracking_artifact WHERE {where} LIMIT 1", params) is not None


def walk(tx: Transaction, place: Place) -> list[ArtifactFile]:
    """Return all files of a folder and below, by path."""
    where, params = _within(place)
    files = [_file(row) for row in tx.rows(f"SELECT {_COLUMNS} FROM tracking_artifact WHERE {where}", params)]
    return sorted(files, key=lambda file: file.place.path)


def remove(tx: Transaction, place: Place) -> int:
    """Remove a file, or a folder with all below; return how many files went."""
    count = tx.execute(
        "DELETE FROM tracking_artifact WHERE owner = ? AND folder = ? AND name = ?",
        (place.owner, place.folder, place.name),
    )
    where, params = _within(place)
    return count + tx.execute(f"DELETE FROM tracking_artifact WHERE {where}", params)


def remove_owners(tx: Transaction, owners: Sequence[str]) -> int:
    """Remove all files of runs or logged models; return how many went."""
    return sum(tx.execute("DELETE FROM tracking_artifact WHERE owner = ?", (owner,)) for owner in owners)


def _within(place: Place) -> tuple[str, tuple[str, ...]]:
    if not place.path:
        return "owner = ?", (place.owner,)
    return f"owner = ? AND (folder = ? OR ({_BELOW}))", (place.owner, place.path, *_bounds(place.path))


def _bounds(folder: str) -> tuple[str, str]:
    return f"{folder}/", f"{folder}0"


def _file(row: Row) -> ArtifactFile:
    path = f"{row['folder']}/{row['name']}" if row["folder"] else row["name"]
    return ArtifactFile(Place(row["owner"], path), row["digest"], row["size_bytes"])
