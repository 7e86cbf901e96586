"""Duplicates in a set: images of one content, and images that look almost alike.

Exact duplicates have files with the same SHA-256. Near duplicates have embeddings whose cosine is at least a
limit: each image joins the first image before it that is as near, or else waits for others to join it. So all
images of a group are near its first one, and a long row of small differences is not one group. All pairs are
compared, in blocks: time grows with the square of the images, memory does not.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal

import numpy as np

from fieldmarks.classification.scoring import Array, normalize
from fieldmarks.retrieval.scan import Scan, inverse_lengths

NEAR: Final = 0.97  # the cosine of near duplicates
BLOCK: Final = 1024  # images compared at once


@dataclass(frozen=True, slots=True)
class Duplicates:
    """A group of images, the first of which the others repeat; `similarity` is the least cosine with it."""

    kind: Literal["exact", "near"]
    images: tuple[str, ...]
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"kind": self.kind, "images": list(self.images), "similarity": self.similarity}


def duplicates(scan: Scan, near: float = NEAR) -> Iterator[Duplicates]:
    """Yield the groups of a set, exact ones first. Files that are equal are one image among the near ones."""
    by_digest: dict[str, list[int]] = defaultdict(list)
    digests = chain.from_iterable(part.digests() for part in scan.parts)
    for row, digest in enumerate(digests):
        if digest is not None:
            by_digest[digest].append(row)
    repeats: set[int] = set()
    for rows in by_digest.values():
        if len(rows) > 1:
            repeats.update(rows[1:])
            yield Duplicates("exact", tuple(scan.names(rows)), 1.0)
    del by_digest
    for rows, similarity in _near(scan, near, repeats):
        yield Duplicates("near", tuple(scan.names(rows)), similarity)


def _near(scan: Scan, near: float, left_out: set[int]) -> Iterator[tuple[list[int], float]]:
    """Yield groups of rows that are near their first one, with the least cosine."""
    first_of = np.full(scan.rows, -1, np.int64)  # the first row of a row's group, itself for a first one
    nearness = np.ones(scan.rows, np.float32)
    for start in range(0, scan.rows, BLOCK):
        rows = [row for row in range(start, min(start + BLOCK, scan.rows)) if row not in left_out]
        vectors = _units(scan.at(rows))  # (rows, D)
        firsts = np.flatnonzero(first_of[:start] == np.arange(start))
        for at in range(0, len(firsts), BLOCK):
            waiting = np.flatnonzero(first_of[rows] < 0)
            if not len(waiting):
                break
            others = firsts[at : at + BLOCK]
            cosines = vectors[waiting] @ _units(scan.at(others.tolist())).T  # (waiting, others)
            best = (cosines >= near).argmax(axis=1)  # the first that is near
            for place, column in zip(waiting.tolist(), best.tolist(), strict=True):
                value = cosines[np.searchsorted(waiting, place), column]
                if value >= near:
                    first_of[rows[place]], nearness[rows[place]] = others[column], value
        _within(rows, vectors, near, first_of, nearness)
    groups: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero((first_of >= 0) & (first_of != np.arange(scan.rows))).tolist():
        groups[int(first_of[row])].append(row)
    for first, members in sorted(groups.items()):
        yield [first, *members], float(min(1.0, nearness[members].min()))


def _units(vectors: Array) -> Array:
    """Return vectors of unit length, zeros for those that have none."""
    usable = inverse_lengths(vectors) > 0
    return normalize(np.where(usable[:, None], vectors, np.float32(0)))


def _within(
    rows: list[int], vectors: Array, near: float, first_of: np.ndarray[Any, Any], nearness: Array
) -> None:
    """Group the rows of one block that no earlier group has taken."""
    cosines = vectors @ vectors.T  # (rows, rows)
    for place, row in enumerate(rows):
        if first_of[row] >= 0 or not vectors[place].any():
            continue
        first_of[row] = row
        later = np.flatnonzero(cosines[place, place + 1 :] >= near) + place + 1
        for other in later.tolist():
            if first_of[rows[other]] < 0:
                first_of[rows[other]], nearness[rows[other]] = row, cosines[place, other]
