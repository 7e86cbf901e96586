"""Reading all vectors of a set in blocks, by several threads, in constant memory.

Vectors are mapped from their files and never copied as a whole: at any time, a block per thread is in memory.
Threads share the blocks of one file too. In an archive, a block is read while others are computed.
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fieldmarks.classification.embedding_files import Part
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.threads import for_each
from fieldmarks.errors import ImageError

BLOCK_BYTES: Final = 2**23  # of vectors that a thread reads at once
_ALONE: Final = 2  # parts whose names are read before threads start, and by which pyarrow is loaded once
_PAGES: Final = mmap.PAGESIZE
_SHORTEST: Final = 1e-12  # a shorter vector has no direction


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a set: their numbers in it, and their vectors (rows, D) as float32."""

    start: int
    vectors: Array

    @property
    def rows(self) -> slice:
        """Where the results of these rows belong."""
        return slice(self.start, self.start + len(self.vectors))


class Scan:
    """All vectors of a set's parts. Raises ImageError for parts of different lengths."""

    def __init__(self, parts: Sequence[Part]) -> None:
        dims = {part.vectors.shape[1] for part in parts if part.rows}
        if len(dims) > 1:
            lengths = " and ".join(map(str, sorted(dims)))
            raise ImageError(
                f"{parts[0].source.parents[1]} holds embeddings of {lengths} numbers: expected one"
            )
        self.parts = parts
        self.dim = next(iter(dims), 0)
        self.starts = np.cumsum([0, *(part.rows for part in parts)])
        self.rows = int(self.starts[-1])

    def each(self, function: Callable[[Block], None]) -> None:
        """Call a function with every block, in threads and in no order."""

        def take(block: tuple[int, np.ndarray[Any, Any], slice]) -> None:
            start, vectors, rows = block
            function(Block(start + rows.start, _float32(vectors[rows])))
            _forget(vectors, rows)

        for_each(take, self._blocks())

    def at(self, rows: Sequence[int]) -> Array:
        """Return the vectors of some rows: (len(rows), D)."""
        found = np.empty((len(rows), self.dim), np.float32)
        for part, places, own in self._by_part(rows):
            found[places] = _array(part)[own].astype(np.float32)
        return found

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the images' names of some rows."""
        names = [""] * len(rows)

        def read(group: tuple[Part, list[int], list[int]]) -> None:
            part, places, own = group
            for place, name in zip(places, part.names_at(own), strict=True):
                names[place] = name

        groups = list(self._by_part(rows))
        for group in groups[:_ALONE]:
            read(group)
        if groups[_ALONE:]:
            for_each(read, groups[_ALONE:])
        return names

    def _by_part(self, rows: Sequence[int]) -> Iterator[tuple[Part, list[int], list[int]]]:
        """Yield each part that has some of the rows: their places among them, and their numbers in it."""
        numbers = np.asarray(rows, np.int64)
        owners = np.searchsorted(self.starts, numbers, side="right") - 1
        for owner in np.unique(owners).tolist():
            places = np.flatnonzero(owners == owner)
            yield self.parts[owner], places.tolist(), (numbers[places] - self.starts[owner]).tolist()

    def _blocks(self) -> Iterator[tuple[int, np.ndarray[Any, Any], slice]]:
        """Yield arrays with the number of their first row in the set, and which of their rows are a block."""
        rows = max(1, BLOCK_BYTES // (4 * max(self.dim, 1)))
        for part, start in zip(self.parts, self.starts.tolist(), strict=False):
            if part.vectors.file is None:
                for vectors in part.vectors.parts(rows):
                    yield start, vectors, slice(0, len(vectors))
                    start += len(vectors)
            else:
                mapped = part.vectors.mapped()
                for at in range(0, part.rows, rows):
                    yield start, mapped, slice(at, min(at + rows, part.rows))


def _array(part: Part) -> np.ndarray[Any, Any]:
    if part.vectors.file is not None:
        return part.vectors.mapped()
    return np.concatenate(list(part.vectors.parts(part.rows)))


def _float32(vectors: np.ndarray[Any, Any]) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite
        return np.asarray(vectors, np.float32)


def _forget(vectors: np.ndarray[Any, Any], rows: slice) -> None:
    """Unmap the pages of rows that were read; they stay in the system's cache of files."""
    if isinstance(vectors, np.memmap) and isinstance(vectors._mmap, mmap.mmap):  # type: ignore[attr-defined]
        row = vectors.strides[0]
        begin = vectors.offset % mmap.ALLOCATIONGRANULARITY + rows.start * row
        first = -(-begin // _PAGES) * _PAGES
        length = (begin + (rows.stop - rows.start) * row) // _PAGES * _PAGES - first
        with suppress(ValueError, OSError):  # at the end of the file
            vectors._mmap.madvise(mmap.MADV_DONTNEED, first, max(length, 0))  # type: ignore[attr-defined]


def inverse_lengths(vectors: Array) -> Array:
    """Return 1 / length of each vector (rows,), 0 for one that has no direction or is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float32))  # (rows,)
    usable = np.isfinite(lengths) & (lengths > _SHORTEST)
    inverse: Array = np.divide(1, lengths, out=np.zeros_like(lengths), where=usable)
    return inverse
