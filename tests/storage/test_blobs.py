"""Blobs: whole or not there, read as they were written, and stored once where they are alike."""

import hashlib
import random
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.errors import BackendError, BackendUnavailableError, NotFoundError
from flyball.storage.alignment import LEAST_BYTES, Stretch, common_stretches, fill_gaps
from flyball.storage.blob_reading import BlobDamagedError
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.recipes import Extent, Recipe

MB = 1_000_000


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def put(blobs: LocalBlobStore, data: bytes, piece: int = 1 << 20) -> tuple[str, int]:
    with blobs.writing() as writer:
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
        return writer.finish(), writer.stored_bytes


def get(blobs: LocalBlobStore, digest: str) -> bytes:
    with blobs.open(digest) as reader:
        return b"".join(reader.chunks())


def change(data: bytes, rng: random.Random, replaced: int, inserted: int) -> bytes:
    """Return bytes of which 1% are other ones: in some places replaced, in others inserted."""
    each = len(data) // 100 // (replaced + inserted)
    changed = bytearray(data)
    for _ in range(replaced):
        place = rng.randrange(len(changed) - each)
        changed[place : place + each] = rng.randbytes(each)
    for _ in range(inserted):
        place = rng.randrange(len(changed))
        changed[place:place] = rng.randbytes(each)
    return bytes(changed)


@pytest.mark.parametrize(("replaced", "inserted"), [(50, 10), (120, 10), (2, 1)])
def test_versions_that_differ_in_one_percent_take_little_more(
    blobs: LocalBlobStore, replaced: int, inserted: int
) -> None:
    rng = random.Random(7)
    data = rng.randbytes(6 * MB)
    digests = {}
    stored = 0
    for _ in range(5):
        digest, took = put(blobs, data)
        digests[digest] = data
        stored += took
        data = change(data, rng, replaced, inserted)
    assert stored < 6 * MB * 1.1
    for digest, expected in digests.items():
        assert hashlib.sha256(expected).hexdigest() == digest
        assert get(blobs, digest) == expected
        assert blobs.path(digest).read_bytes() == expected


def test_the_same_bytes_are_kept_once(blobs: LocalBlobStore) -> None:
    data = random.Random(1).randbytes(3 * MB)
    first, took = put(blobs, data)
    assert took == 3 * MB
    assert put(blobs, data, 70_000) == (first, 0)
    assert blobs.put_bytes(data) == first
    assert len(list(blobs.root.glob("*/" + "?" * 64))) == 1


def test_what_a_file_repeats_is_stored_once(blobs: LocalBlobStore) -> None:
    block = random.Random(2).randbytes(3 * MB)
    digest, took = put(blobs, block * 3)
    assert took < 3.2 * MB
    assert get(blobs, digest) == block * 3


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 700_000), st.integers(0, 200_000), st.booleans()), min_size=1, max_size=4),
    st.integers(1, 5 << 20),
)
def test_any_bytes_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, bool]], piece: int
) -> None:
    blobs = LocalBlobStore(tmp_path_factory.mktemp("blobs"))
    rng = random.Random(3)
    data = rng.randbytes(700_000)
    known = {}
    for place, length, inserted in edits:
        digest, _ = put(blobs, data, piece)
        known[digest] = data
        data = data[:place] + rng.randbytes(length) + data[place if inserted else place + length :]
    for digest, expected in known.items():
        assert get(blobs, digest) == expected
        with blobs.open(digest) as reader:
            for start in (0, len(expected) // 3, len(expected)):
                assert b"".join(reader.chunks(start, start + 100_000)) == expected[start : start + 100_000]


def test_what_is_not_finished_leaves_nothing(blobs: LocalBlobStore) -> None:
    with blobs.writing() as writer:
        writer.write(bytes(9 * MB))
    assert not [path for path in blobs.root.rglob("*") if path.is_file() and not path.name.startswith("chunks")]


def test_a_lost_or_broken_index_costs_only_space(blobs: LocalBlobStore) -> None:
    rng = random.Random(4)
    data = rng.randbytes(2 * MB)
    put(blobs, data)
    for damage in (b"no database at all" * 100, b""):
        for path in blobs.root.glob("chunks.db-*"):
            path.unlink()
        (blobs.root / "chunks.db").write_bytes(damage)
        data = change(data, rng, 2, 2)
        digest, took = put(blobs, data)
        assert took == len(data)
        assert get(blobs, digest) == data


def test_an_index_with_broken_pages_is_made_again(blobs: LocalBlobStore) -> None:
    rng = random.Random(6)
    data = rng.randbytes(9 * MB)
    put(blobs, data)
    index = blobs.root / "chunks.db"
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = index.read_bytes()
    index.write_bytes(whole[:4096] + b"x" * (len(whole) - 4096))  # it can be opened, but not read
    for is_known in (False, True):
        digest, took = put(blobs, data := change(data, rng, 2, 2))
        assert get(blobs, digest) == data
        assert (took < MB) == is_known


def test_an_index_that_cannot_be_opened_costs_only_space(blobs: LocalBlobStore) -> None:
    (blobs.root / "chunks.db").mkdir(parents=True)
    data = random.Random(7).randbytes(2 * MB)
    digest, took = put(blobs, data)
    assert took == len(data) and get(blobs, digest) == data


def test_a_base_that_is_gone_is_not_built_upon(blobs: LocalBlobStore) -> None:
    rng = random.Random(5)
    data = rng.randbytes(2 * MB)
    base, _ = put(blobs, data)
    blobs.place(base).unlink()
    digest, took = put(blobs, change(data, rng, 2, 2))
    assert took > 2 * MB
    assert blobs.has(digest)
    assert not blobs.has(base)
    with pytest.raises(NotFoundError):
        blobs.open(base)


def test_a_base_that_goes_meanwhile_is_noticed_and_the_next_try_succeeds(blobs: LocalBlobStore) -> None:
    rng = random.Random(8)
    data = rng.randbytes(4 * MB)
    base, _ = put(blobs, data)
    changed = change(data, rng, 3, 3)
    with blobs.writing() as writer:
        for start in range(0, len(changed), MB):
            writer.write(changed[start : start + MB])
        blobs.place(base).unlink()
        with pytest.raises(BackendUnavailableError, match="removed as garbage"):
            writer.finish()
    assert list(blobs.list_digests()) == []
    digest, took = put(blobs, changed)
    assert took >= 4 * MB
    assert get(blobs, digest) == changed


def test_a_damaged_base_is_no_reason_to_refuse_what_comes(blobs: LocalBlobStore) -> None:
    rng = random.Random(9)
    data = rng.randbytes(3 * MB)
    base, _ = put(blobs, data)
    path = blobs.place(base)
    path.write_bytes(data[: 2 * MB])
    # From beyond what is left of it, so that it is looked at there.
    changed = data[2 * MB + 300_000 :] + rng.randbytes(MB)
    changed = changed[:100_000] + rng.randbytes(100) + changed[100_000:]
    with pytest.raises(BlobDamagedError):
        get(blobs, base)
    digest, _ = put(blobs, changed)
    assert get(blobs, digest) == changed


def test_damage_is_told(blobs: LocalBlobStore) -> None:
    rng = random.Random(6)
    data = rng.randbytes(2 * MB)
    base, _ = put(blobs, data)
    digest, _ = put(blobs, change(data, rng, 2, 2))
    broken = bytearray(data)
    broken[MB] ^= 1
    blobs.place(base).write_bytes(broken)
    for one in (base, digest):
        with pytest.raises(BlobDamagedError):
            get(blobs, one)
    recipe = blobs.recipe_place(digest)
    recipe.write_bytes(recipe.read_bytes()[:-9])
    with pytest.raises(BackendError, match="recipe"):
        get(blobs, digest)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(0, 9)), max_size=20))
def test_a_recipe_reads_as_it_was_written(parts: list[tuple[str, int, int]]) -> None:
    recipe = Recipe([Extent(source * 64, offset, length) for source, offset, length in parts])
    again = Recipe.decode(recipe.encode(), "x")
    assert list(again) == list(recipe)
    files = {source * 64: bytes(range(ord(source), ord(source) + 60)) for source in "abc"}
    whole = b"".join(files[source * 64][offset : offset + length] for source, offset, length in parts)
    assert again.size_bytes == len(whole)
    for start in range(0, len(whole) + 1, 7):
        found = b"".join(
            files[one.source][one.offset : one.offset + one.length] for one in again.within(start, start + 9)
        )
        assert found == whole[start : start + 9]


@given(st.data())
def test_stretches_are_what_two_runs_share(data: st.DataObject) -> None:
    old = random.Random(8).randbytes(1_000)
    run = bytearray(old)
    for place in data.draw(st.lists(st.integers(0, 999), max_size=5)):
        run[place] ^= 1
    before = data.draw(st.binary(max_size=80))
    found = common_stretches(before + bytes(run), len(before), old, "b", 100)
    same = [ours == theirs for ours, theirs in zip(run, old, strict=True)]
    covered = {place for one in found for place in range(one.start - len(before), one.stop - len(before))}
    assert all(same[place] for place in covered)
    assert all(one.place == one.start - len(before) + 100 for one in found)
    for place in range(1_000 - LEAST_BYTES):
        assert not all(same[place : place + LEAST_BYTES]) or place in covered


_intervals = st.lists(st.tuples(st.integers(0, 200), st.integers(LEAST_BYTES, 90)), max_size=4)


@given(_intervals, _intervals)
def test_gaps_are_filled_without_overlap(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    def spread(parts: list[tuple[int, int]], blob: str) -> list[Stretch]:
        position, found = 0, []
        for gap, length in parts:
            found.append(Stretch(position + gap, position + gap + length, blob, position + gap))
            position += gap + length
        return found

    ours, theirs = spread(first, "a"), spread(second, "b")
    filled = fill_gaps(ours, theirs)
    assert [one for one in filled if one.blob == "a"] == ours
    assert all(before.stop <= after.start for before, after in pairwise(filled))
    for one in filled:
        assert one.place == one.start
        assert any(
            other.start <= one.start and one.stop <= other.stop for other in (ours if one.blob == "a" else theirs)
        )
