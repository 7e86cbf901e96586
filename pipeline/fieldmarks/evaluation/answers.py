"""What texts answer on pictures: each picture's best class and the rank of its true one, a chunk at a time.

N pictures, M texts, C classes, D dimensions; no array of N x C is ever made.
"""

from collections.abc import Iterator

import numpy as np

from fieldmarks.classification import scoring
from fieldmarks.classification.scoring import Aggregation, Array
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import ModelError
from fieldmarks.evaluation.results import Indices, Run

CHUNK = 4_000_000  # scores in memory at a time


class Scorer:
    """Texts with their embeddings (M, D), as the pooled cosine (n, C) of some pictures and the classes."""

    def __init__(self, texts: Texts, rows: Array, aggregate: Aggregation) -> None:
        self.owner = np.array(texts.owner, np.int64)  # (M,)
        self.classes = len(texts.classes)
        self.length = rows.shape[1]  # D
        self._matrix: Array | None = None
        if aggregate == "max-similarity":
            order = np.argsort(self.owner, kind="stable")
            self._rows = scoring.normalize(rows[order])  # (M, D), class after class
            self._starts = np.searchsorted(self.owner[order], np.arange(self.classes))
        else:
            self._matrix = scoring.class_matrix(rows, self.owner, self.classes, aggregate)  # (C, D)

    def __call__(self, images: Array) -> Array:
        """Return the scores (n, C), before the model's scale, of image embeddings (n, D) of unit length."""
        if self._matrix is not None:
            return images @ self._matrix.T
        return np.maximum.reduceat(images @ self._rows.T, self._starts, axis=1)

    def step(self) -> int:
        """Return how many pictures make a chunk."""
        return max(1, CHUNK // (self.classes if self._matrix is not None else len(self.owner)))


def chunks(count: int, step: int) -> Iterator[slice]:
    """Yield the slices of `count` pictures, `step` at a time."""
    return (slice(at, min(at + step, count)) for at in range(0, count, step))


def answer(images: Array, labels: Indices, scorer: Scorer, seed: int | None = None) -> Run:
    """Return what the texts answer on pictures (N, D) of unit length whose classes are `labels` (N,).

    Of classes that score the same the first is answered, and ranks before the others. Raises ModelError for
    pictures and texts of different lengths.
    """
    if images.shape[1] != scorer.length:
        raise ModelError(
            f"the pictures' embeddings have {images.shape[1]} numbers and the texts' {scorer.length}: they"
            " come from different models"
        )
    predicted, rank = np.empty((2, len(images)), np.int32)
    for part in chunks(len(images), scorer.step()):
        scores = scorer(images[part])  # (n, C)
        predicted[part] = scores.argmax(axis=1)
        rank[part] = ranks(scores, labels[part])
    return Run(predicted, rank, seed)


def ranks(scores: Array, labels: Indices) -> Indices:
    """Return how many classes stand before the true one: (n, C), (n,) -> (n,)."""
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)  # (n, 1)
    before: Indices = np.count_nonzero(scores > own, axis=1).astype(np.int32)
    for row in np.flatnonzero(np.count_nonzero(scores == own, axis=1) > 1):  # a class that scores the same
        before[row] += np.count_nonzero(scores[row, : labels[row]] == own[row])
    return before
