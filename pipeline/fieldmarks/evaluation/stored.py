"""Images that stay in the files of their embedding set: vectors and names that are read where they are used.

An evaluation of millions of precomputed embeddings holds a few numbers of each image in memory, and neither
its vector nor its name.
"""

from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.embedding_files import Part, parts
from fieldmarks.classification.scoring import Array, normalize

Rows = NDArray[np.int64]


class StoredRows:
    """Some rows of a folder of embeddings, by their numbers in it, (N,) in order. Raises ImageError."""

    def __init__(self, folder: Path, rows: Rows) -> None:
        self._parts = parts(folder)
        self._starts = np.cumsum([0, *(part.rows for part in self._parts)])  # (P + 1,)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dims(self) -> set[int]:
        """The lengths of the embeddings, which are several where they are of several models."""
        return {part.vectors.shape[1] for part in self._parts if part.rows}

    def by_part(self, places: Any) -> Iterator[tuple[Part, NDArray[np.bool_], Rows]]:
        """Yield the parts that hold the rows at some places, with which of them these are, and where."""
        rows = self._rows[places]  # (n,)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1  # (n,)
        for number in np.unique(part_of).tolist():
            own = part_of == number
            yield self._parts[number], own, rows[own] - self._starts[number]


class StoredVectors(StoredRows):
    """Embeddings of unit length, an array (N, D) that is read where it is indexed, by a slice or indices."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self), next(iter(self.dims), 0)

    def __getitem__(self, places: Any) -> Array:
        chosen = np.arange(len(self))[places]
        vectors = np.empty((len(chosen), self.shape[1]), np.float32)  # (n, D)
        for part, own, rows in self.by_part(places):
            vectors[own] = part.vectors.mapped()[rows]
        return normalize(vectors)


class StoredNames(StoredRows, Sequence[str]):
    """The names of images, which are read from the set's metadata: all at once, or a few."""

    def __iter__(self) -> Iterator[str]:
        for part, _, rows in self.by_part(slice(None)):
            chosen = np.zeros(part.rows, bool)
            chosen[rows] = True
            yield from compress(part.names(), chosen)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self.at(np.arange(len(self))[place])
        return self.at(np.array([place]))[0]

    def at(self, places: Rows) -> list[str]:
        """Return the names at some places, each file being read once."""
        names = np.empty(len(places), object)
        for part, own, rows in self.by_part(places):
            names[own] = part.names_at(rows.tolist())
        return list(names)


def names_at(names: Sequence[str], places: Rows) -> list[str]:
    """Return some of the names of images."""
    return names.at(places) if isinstance(names, StoredNames) else [names[at] for at in places.tolist()]


class Digests(Sequence[str]):
    """Digests of 16 bytes, (N, 16), as hexadecimal texts."""

    def __init__(self, digests: NDArray[np.uint8]) -> None:
        self.bytes = digests

    def __len__(self) -> int:
        return len(self.bytes)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        chosen = self.bytes[place]
        return chosen.tobytes().hex() if chosen.ndim == 1 else [digest.tobytes().hex() for digest in chosen]
