"""A blob that is put together from parts of others: what lies where."""

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from flyball.core.errors import BackendError

if TYPE_CHECKING:
    import numpy as np

_MAGIC = b"flyball recipe 1\n"


class Extent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes of a file: ``length`` of them from ``offset`` on."""

    source: str
    offset: int
    length: int


class Recipe:
    """The extents of a blob in their order. Growing it is for the writer; all others only read.

    Adjacent extents of one file become one.
    """

    def __init__(self, extents: Sequence[Extent] = ()) -> None:
        self.size_bytes = 0
        self._starts: list[int] = []
        self._extents: list[Extent] = []
        for extent in extents:
            self.add(extent)

    def __len__(self) -> int:
        return len(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    @property
    def sources(self) -> list[str]:
        """The digests of the files that the blob is made of, each once, in the order of first use."""
        return list(dict.fromkeys(extent.source for extent in self._extents))

    def add(self, extent: Extent) -> None:
        """Append bytes at the end."""
        if not extent.length:
            return
        if self._extents:
            last = self._extents[-1]
            if last.source == extent.source and last.offset + last.length == extent.offset:
                self._extents[-1] = Extent(last.source, last.offset, last.length + extent.length)
                self.size_bytes += extent.length
                return
        self._starts.append(self.size_bytes)
        self._extents.append(extent)
        self.size_bytes += extent.length

    def within(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents that hold the blob's bytes from ``start`` to before ``stop``."""
        position = max(0, bisect_right(self._starts, start) - 1)
        while start < min(stop, self.size_bytes):
            extent, begin = self._extents[position], self._starts[position]
            skipped = start - begin
            length = min(stop - start, extent.length - skipped)
            yield Extent(extent.source, extent.offset + skipped, length)
            start += length
            position += 1

    def encode(self) -> bytes:
        """Return the recipe as a file: a line, a JSON line, and three compressed columns of numbers."""
        import numpy as np

        sources = self.sources
        number = {source: place for place, source in enumerate(sources)}
        head = {"size_bytes": self.size_bytes, "sources": sources, "extents": len(self._extents)}
        columns = np.array(
            [
                [number[extent.source] for extent in self._extents],
                [extent.offset for extent in self._extents],
                [extent.length for extent in self._extents],
            ],
            dtype="<u8",
        )
        return _MAGIC + msgspec.json.encode(head) + b"\n" + zlib.compress(_planes(columns).tobytes(), 6)

    @classmethod
    def decode(cls, data: bytes, name: str) -> Self:
        """Return the recipe of a file.

        Raises:
            BackendError: The file is damaged.
        """
        import numpy as np

        try:
            head_line, columns = data.removeprefix(_MAGIC).split(b"\n", 1)
            head = msgspec.json.decode(head_line, type=_Head)
            planes = np.frombuffer(zlib.decompress(columns), np.uint8).reshape(8, 3, head.extents)
            numbers = np.ascontiguousarray(planes.transpose(1, 2, 0)).view("<u8")[:, :, 0].tolist()
            recipe = cls(
                [Extent(head.sources[place], offset, length) for place, offset, length in zip(*numbers, strict=True)]
            )
            if not data.startswith(_MAGIC) or recipe.size_bytes != head.size_bytes:
                raise ValueError("its parts have another length")
        except (ValueError, IndexError, zlib.error, msgspec.MsgspecError) as error:
            raise BackendError(
                f"the stored recipe {name!r} is damaged: {error}", hint="Restore the home's folder blobs from a backup."
            ) from error
        return recipe


class _Head(msgspec.Struct):
    size_bytes: int
    sources: list[str]
    extents: int


def _planes(
    columns: "np.ndarray[tuple[int, int], np.dtype[np.uint64]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Return the numbers' first bytes, then their second ones, and so on: most are zero, and compress to nothing."""
    import numpy as np

    count = columns.shape[1]
    return np.ascontiguousarray(columns.view(np.uint8).reshape(3, count, 8).transpose(2, 0, 1))
