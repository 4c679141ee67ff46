"""Clearing blobs: what is referred to is never lost, what is not goes once it is old."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from flyball.storage.blobs import LocalBlobStore
from flyball.storage.sweeping import Sweep, Swept

OLD = 100_000.0


def put(blobs: LocalBlobStore, data: bytes) -> str:
    with blobs.writing() as writer:
        writer.write(data)
        return writer.finish()


def get(blobs: LocalBlobStore, digest: str) -> bytes:
    with blobs.open(digest) as reader:
        return b"".join(reader.chunks())


def make_old(blobs: LocalBlobStore) -> None:
    """Let all files be as if nobody had used them for long."""
    for path in blobs.root.rglob("*"):
        if not path.name.startswith("chunks"):
            os.utime(path, (1.0, 1.0))


def sweep(blobs: LocalBlobStore, referenced: set[str], *, is_dry: bool = False) -> Swept:
    return Sweep(blobs, OLD, is_dry=is_dry).run(referenced)


def size(blobs: LocalBlobStore) -> int:
    files = (path for path in blobs.root.rglob("*") if path.is_file() and not path.name.startswith("chunks"))
    return sum(path.stat().st_size for path in files)


def versions(count: int, change: int = 3_000) -> list[bytes]:
    """Return contents that each differ from the one before in some places."""
    rng = random.Random(count)
    data = bytearray(rng.randbytes(400_000))
    found = []
    for _ in range(count):
        found.append(bytes(data))
        for _ in range(3):
            place = rng.randrange(len(data))
            data[place:place] = rng.randbytes(change)
    return found


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def test_old_bytes_that_nothing_names_go(blobs: LocalBlobStore) -> None:
    kept, lost = put(blobs, b"kept"), put(blobs, b"lost")
    make_old(blobs)
    young = put(blobs, b"young")
    again = put(blobs, b"lost and asked for again")
    os.utime(blobs.place(again), (1.0, 1.0))
    assert blobs.has(again)
    assert sweep(blobs, {kept}, is_dry=True).blobs == 1
    assert blobs.place(lost).exists()
    found = sweep(blobs, {kept})
    assert (found.blobs, found.freed_bytes) == (1, 4)
    assert [blobs.place(one).exists() for one in (kept, lost, young, again)] == [True, False, True, True]


def test_files_stay_as_long_as_a_blob_has_parts_of_them(blobs: LocalBlobStore) -> None:
    contents = versions(4)
    digests = [put(blobs, data) for data in contents]
    make_old(blobs)
    before = size(blobs)
    found = sweep(blobs, {digests[-1]})
    assert found.blobs == 2
    assert get(blobs, digests[-1]) == contents[-1]
    assert size(blobs) == before - found.freed_bytes
    assert not any(blobs.has(digest) for digest in digests[1:3])
    make_old(blobs)
    found = sweep(blobs, set())
    assert size(blobs) == 0
    assert found.freed_bytes == before - (before - size(blobs) - found.freed_bytes)


def test_a_file_that_is_mostly_dead_is_written_anew(blobs: LocalBlobStore) -> None:
    rng = random.Random(1)
    shared = rng.randbytes(300_000)
    base = put(blobs, shared + rng.randbytes(900_000))
    other = shared + rng.randbytes(300_000)
    digest = put(blobs, other)
    assert blobs.recipe_place(digest).exists()
    make_old(blobs)
    told = sweep(blobs, {digest}, is_dry=True)
    with blobs.open(digest) as reader:
        first = reader.read(0, 10)
        found = sweep(blobs, {digest})
        assert first + reader.read(10, len(other)) == other  # a reader goes on with the new file
    assert (found.parts, found.freed_bytes) == (told.parts, told.freed_bytes)
    assert found.parts == 1
    assert found.freed_bytes > 850_000
    assert get(blobs, digest) == other
    assert not blobs.place(base).exists()
    assert size(blobs) < 650_000


def test_copies_for_readers_go_but_not_what_is_opened_by_path(blobs: LocalBlobStore) -> None:
    contents = versions(3)
    digests = [put(blobs, data) for data in contents]
    for digest in digests[1:]:
        blobs.path(digest)
    make_old(blobs)
    found = Sweep(blobs, OLD).run(set(digests), {digests[2]})
    assert found.copies == 1
    assert [blobs.place(digest).exists() for digest in digests] == [True, False, True]
    assert [get(blobs, digest) for digest in digests] == contents


def test_what_writers_left_behind_goes(blobs: LocalBlobStore) -> None:
    blobs.unfinished().write_bytes(b"half a file")
    (blobs.unfinished_upload() / "1").write_bytes(b"a part")
    put(blobs, b"kept")
    (blobs.root / "ab").mkdir()
    (blobs.root / "ab" / ".x.1.tmp").write_bytes(b"half")
    assert sweep(blobs, set()).unfinished == 0
    make_old(blobs)
    assert sweep(blobs, set(), is_dry=True).unfinished == 3
    assert sweep(blobs, set()).unfinished == 3
    assert size(blobs) == 0


def test_a_new_version_after_a_sweep_builds_on_what_is_left(blobs: LocalBlobStore) -> None:
    contents = versions(4)
    put(blobs, contents[0])
    second = put(blobs, contents[1])
    make_old(blobs)
    sweep(blobs, {second})
    third = put(blobs, contents[2])
    make_old(blobs)
    sweep(blobs, {third})
    assert get(blobs, third) == contents[2]


class Store(RuleBasedStateMachine):
    """Anybody writes, names, forgets and reads, and a sweep may come at any moment."""

    digests = Bundle("digests")

    @initialize()
    def open_store(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.blobs = LocalBlobStore(Path(self.folder.name))
        self.contents: dict[str, bytes] = {}
        self.named: set[str] = set()
        self.rng = random.Random(0)

    @rule(target=digests, kilobytes=st.integers(1, 500))
    def put_new(self, kilobytes: int) -> str:
        return self._put(self.rng.randbytes(kilobytes * 1_000))

    @rule(
        target=digests, base=digests, place=st.integers(0, 400_000), inserted=st.booleans(), length=st.integers(1, 200)
    )
    def put_changed(self, base: str, place: int, inserted: bool, length: int) -> str:
        data, size = self.contents[base], length * 1_000
        return self._put(data[:place] + self.rng.randbytes(size) + data[place if inserted else place + size :])

    @rule(digest=consumes(digests))
    def forget(self, digest: str) -> None:
        self.named.discard(digest)

    @rule(digest=digests)
    def open_by_path(self, digest: str) -> None:
        if digest in self.named:
            assert self.blobs.path(digest).read_bytes() == self.contents[digest]

    @rule()
    def time_passes(self) -> None:
        make_old(self.blobs)

    @rule(is_dry=st.booleans())
    def clear(self, is_dry: bool) -> None:
        before = size(self.blobs)
        found = sweep(self.blobs, self.named, is_dry=is_dry)
        assert size(self.blobs) == (before if is_dry else before - found.freed_bytes)

    @invariant()
    def what_is_named_is_there(self) -> None:
        for digest in getattr(self, "named", ()):
            assert get(self.blobs, digest) == self.contents[digest]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            make_old(self.blobs)
            sweep(self.blobs, set())
            assert size(self.blobs) == 0
            self.folder.cleanup()

    def _put(self, data: bytes) -> str:
        digest = put(self.blobs, data)
        self.contents[digest] = data
        self.named.add(digest)
        return digest


Store.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
test_nothing_named_is_ever_lost = Store.TestCase
