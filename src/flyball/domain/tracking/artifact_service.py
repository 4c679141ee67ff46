"""The one way in to files of runs and of logged models, for rooms above and for clients."""

from pathlib import Path
from typing import TYPE_CHECKING

from flyball.domain.tracking import artifact_store, client_store
from flyball.domain.tracking.artifacts import (
    SEALED,
    ArtifactFile,
    ArtifactNotFoundError,
    ArtifactPathError,
    Entry,
    Place,
    check_name,
)
from flyball.domain.tracking.client_runs import RunStateError
from flyball.storage.blobs import BlobReader, LocalBlobStore
from flyball.storage.db import Database, Transaction

if TYPE_CHECKING:
    from flyball.storage.blob_writing import BlobWriter


class ArtifactService:
    """Keeps files by whose they are and their path; the bytes lie among the blobs, each content once.

    Methods that write take the transaction that they are part of, so that many requests share one. The bytes come
    first (`put_bytes`, `writing`), then `put` names them: a file is never seen half-written.

    Args:
        db: Where the names are kept.
        blobs: Where the bytes are kept.
    """

    def __init__(self, db: Database, blobs: LocalBlobStore) -> None:
        self._db = db
        self._blobs = blobs

    def writing(self) -> "BlobWriter":
        """Return what takes the bytes of a file in pieces. See `LocalBlobStore.writing`."""
        return self._blobs.writing()

    def check(self, place: Place) -> None:
        """Tell a client before it sends a large file whether it can be kept. See `put`."""
        with self._db.read() as tx:
            self._check(tx, place)

    def put(self, tx: Transaction, place: Place, digest: str, size_bytes: int) -> ArtifactFile:
        """Name bytes that are among the blobs; a file of that name gets the new content.

        Raises:
            ArtifactPathError: The place is a folder, or a segment of its path is a file.
            RunStateError: The run that it would belong to is deleted.
        """
        self._check(tx, place)
        file = ArtifactFile(place, digest, size_bytes)
        artifact_store.put_file(tx, file)
        return file

    def bring(self, tx: Transaction, place: Place, digest: str, size_bytes: int) -> ArtifactFile:
        """Name bytes that another store had at a place, also where the run is deleted. See `put`."""
        file = ArtifactFile(Place(place.owner, check_name(place.path)), digest, size_bytes)
        self._check_path(tx, file.place)
        artifact_store.put_file(tx, file)
        return file

    def put_bytes(self, tx: Transaction, place: Place, data: bytes) -> ArtifactFile:
        """Keep a small file. See `put`."""
        return self.put(tx, place, self._blobs.put_bytes(data), len(data))

    def put_file(self, tx: Transaction, place: Place, path: Path) -> ArtifactFile:
        """Keep a copy of a file of any size. See `put`."""
        with self._blobs.writing() as writer, path.open("rb") as file:
            while chunk := file.read(1 << 20):
                writer.write(chunk)
            digest = writer.finish()
        return self.put(tx, place, digest, writer.size_bytes)

    def find(self, place: Place) -> ArtifactFile | None:
        """Return a file, or None where there is none."""
        with self._db.read() as tx:
            return artifact_store.find_file(tx, place)

    def get(self, place: Place) -> ArtifactFile:
        """Return a file.

        Raises:
            ArtifactNotFoundError: There is none, or a folder.
        """
        with self._db.read() as tx:
            file = artifact_store.find_file(tx, place)
            if file is None and artifact_store.has_below(tx, place):
                raise ArtifactNotFoundError(place.path, "it is a folder")
        if file is None:
            raise ArtifactNotFoundError(place.path)
        return file

    def list_folder(self, place: Place) -> list[Entry]:
        """Return what a folder holds, by name; nothing where it is a file or not there."""
        with self._db.read() as tx:
            files = artifact_store.list_files(tx, place)
            folders = artifact_store.list_folders(tx, place)
        skipped = len(place.path) + 1 if place.path else 0
        names = {folder[skipped:].partition("/")[0] for folder in folders}
        entries = [Entry(file.place.name, file.size_bytes) for file in files] + [Entry(name, None) for name in names]
        return sorted(entries, key=lambda entry: entry.name)

    def walk(self, place: Place) -> list[ArtifactFile]:
        """Return all files of a folder and below, by path; a file alone is one."""
        with self._db.read() as tx:
            file = artifact_store.find_file(tx, place) if place.path else None
            return [file] if file else artifact_store.walk(tx, place)

    def delete(self, tx: Transaction, place: Place) -> int:
        """Remove a file, or a folder with all below; the bytes go with the next `flyball gc`.

        Returns:
            How many files went.

        Raises:
            ArtifactPathError: They belong to a registered version.
        """
        _refuse_if_sealed(place)
        return artifact_store.remove(tx, place)

    def copy(self, tx: Transaction, source: Place, target: Place) -> int:
        """Name all files of a folder, or one file, at another place too; no bytes are copied.

        Returns:
            How many files there are.

        Raises:
            ArtifactPathError: A file of the target is a folder of the source, or the other way round.
        """
        file = artifact_store.find_file(tx, source) if source.path else None
        if file is not None:
            self.put(tx, target, file.digest, file.size_bytes)
            return 1
        skipped = len(source.path) + 1 if source.path else 0
        files = artifact_store.walk(tx, source)
        for file in files:
            self.put(tx, target.below(file.place.path[skipped:]), file.digest, file.size_bytes)
        return len(files)

    def read(self, file: ArtifactFile) -> BlobReader:
        """Open a file's bytes.

        Raises:
            NotFoundError: The bytes are gone.
        """
        return self._blobs.open(file.digest)

    def write_folder(self, place: Place, target: Path) -> int:
        """Write all files of a folder into a folder on disk, such as for a runtime that loads a model by path.

        Returns:
            How many files there are.
        """
        files = self.walk(place)
        skipped = len(place.path) + 1 if place.path else 0
        for file in files:
            relative = file.place.path[skipped:] or file.place.name
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.read(file) as reader, path.open("wb") as out:
                for chunk in reader.chunks():
                    out.write(chunk)
        return len(files)

    def _check(self, tx: Transaction, place: Place) -> None:
        if not place.path:
            raise ArtifactPathError(place.path, "it names no file")
        _refuse_if_sealed(place)
        run = client_store.find_run(tx, place.owner) if place.owner else None
        if run is not None and run.is_deleted:
            raise RunStateError(place.owner, is_deleted=True)
        self._check_path(tx, place)

    def _check_path(self, tx: Transaction, place: Place) -> None:
        above = place.path.split("/")[:-1]
        for count in range(1, len(above) + 1):
            if artifact_store.find_file(tx, Place(place.owner, "/".join(above[:count]))) is not None:
                raise ArtifactPathError(place.path, f"{'/'.join(above[:count])!r} is a file")
        if artifact_store.has_below(tx, place):
            raise ArtifactPathError(place.path, "there is a folder of that name")


def _refuse_if_sealed(place: Place) -> None:
    if place.owner.startswith(SEALED):
        raise ArtifactPathError(place.path, "the files of a registered version stay as they were registered")
