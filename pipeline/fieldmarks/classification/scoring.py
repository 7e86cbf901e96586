"""The arithmetic of classification: pure functions from embeddings to scores.

N pictures, M texts, C classes, D dimensions. Embeddings come from CLIP after its projection and are
not of unit length; `owner` (M,) holds the class index of each text; `scale` is exp(logit_scale).
"""

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Aggregation = Literal["mean-embedding", "mean-unit-embedding", "mean-similarity", "max-similarity"]
AGGREGATIONS: Final[tuple[Aggregation, ...]] = (
    "mean-embedding",
    "mean-unit-embedding",
    "mean-similarity",
    "max-similarity",
)
_SHORTEST: Final = 1e-12  # a shorter vector has no direction


def normalize(rows: Array) -> Array:
    """Return rows of unit length: (N, D) -> (N, D). A zero vector stays zero."""
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)  # (N,), wide enough not to overflow
    lengths = np.maximum(np.sqrt(squares), _SHORTEST)[:, None]  # (N, 1)
    unit: Array = np.divide(rows, lengths, out=np.empty_like(rows, np.float32), casting="same_kind")
    return unit


def cosines(images: Array, texts: Array) -> Array:
    """Return the cosine of every picture and every text: (N, D), (M, D) -> (N, M). A zero vector gives 0."""
    return normalize(images) @ normalize(texts).T


def members(owner: Indices, classes: int) -> list[Indices]:
    """Return which texts are each class's: (M,) -> C arrays of indices."""
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.searchsorted(owner[order], np.arange(1, classes)))


def class_means(rows: Array, owner: Indices, classes: int) -> Array:
    """Return the mean of each class's rows: (M, D), (M,) -> (C, D). A class without rows gives zeros."""
    means = np.zeros((classes, rows.shape[1]), np.float32)  # (C, D)
    for mean, own in zip(means, members(owner, classes), strict=True):
        if len(own):
            mean[:] = rows[own].mean(axis=0, dtype=np.float64)
    return means


def class_matrix(texts: Array, owner: Indices, classes: int, aggregation: Aggregation) -> Array:
    """Return the matrix W (C, D) for which a class's pooled cosine is unit(image) @ W.T.

    - mean-embedding: mean of the embeddings, then unit length (the article);
    - mean-unit-embedding: mean of the unit embeddings, then unit length (open_clip, CuPL);
    - mean-similarity: mean of the unit embeddings, which makes the product the mean of the cosines
      (Menon & Vondrick).

    `max-similarity` is no product with one vector a class: it raises ValueError.
    """
    if aggregation == "max-similarity":
        raise ValueError("max-similarity has no class matrix")
    rows = texts if aggregation == "mean-embedding" else normalize(texts)  # (M, D)
    means = class_means(rows, owner, classes)  # (C, D)
    return means if aggregation == "mean-similarity" else normalize(means)


def products(images: Array, weights: Array, scale: float) -> Array:
    """Return scale · unit(image) · weight: (N, D), (K, D) -> (N, K)."""
    scaled: Array = normalize(images) * np.float32(scale)  # fewer numbers to multiply than the products are
    return scaled @ weights.T


def highest(scores: Array, owner: Indices, classes: int) -> Array:
    """Return each class's highest score: (N, M), ascending owner (M,) -> (N, C); -inf without any."""
    best = np.full((len(scores), classes), -np.inf, np.float32)  # (N, C)
    present, starts = np.unique(owner, return_index=True)
    best[:, present] = np.maximum.reduceat(scores, starts, axis=1)
    return best


def best_first(scores: Array, top: int | None = None) -> Indices:
    """Return the columns of each row's `top` highest scores, or of all: (N, C) -> (N, top).

    The best comes first, and of equal ones the one that stands first.
    """
    rows, columns = scores.shape
    if top is None or top >= columns:
        return np.argsort(-scores, axis=1, kind="stable")
    least = np.partition(scores, columns - top, axis=1)[:, columns - top]  # (N,), the last one taken
    found = np.flatnonzero(~(scores < least[:, None]))  # all equal to it too; of a row of NaN, all
    row, column = np.divmod(found, columns)
    order = np.lexsort((-scores.ravel()[found], row))  # stable: equal scores stay in the columns' order
    first = np.searchsorted(row, np.arange(rows))  # (N,)
    best: Indices = column[order[first[:, None] + np.arange(top)]]
    return best


def probabilities(logits: Array) -> Array:
    """Return the softmax over the given classes: (N, C) -> (N, C), rows summing to 1.

    For models trained with a sigmoid (SigLIP) these are still shares among the given classes, not the
    model's own probability of each pair; its logit bias adds the same to all classes and drops out.
    """
    shares: Array = logits - logits.max(axis=-1, keepdims=True)  # the best becomes 0: nothing overflows
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def mark_scores(images: Array, texts: Array, scale: float) -> Array:
    """Return S(descriptor) = scale · cos(image, text) of every text, not normalised over texts: (N, M)."""
    return scale * cosines(images, texts)


def usual_scores(images: Iterable[Array], texts: Array, scale: float) -> tuple[Array, Array]:
    """Return mean and standard deviation (M,) of each S(descriptor) over pictures, given in batches (N, D).

    They make marks comparable, which raw scores of different texts are not: z = (S - mean) / deviation.
    As a score is linear in the picture, the pictures' own mean and covariance tell both.
    """
    count, dim = 0, texts.shape[1]
    total, squares = np.zeros(dim), np.zeros((dim, dim))
    for batch in images:
        unit = normalize(batch).astype(np.float64)  # (N, D)
        count += len(unit)
        total += unit.sum(axis=0)
        squares += unit.T @ unit
    mean = total / max(count, 1)  # (D,)
    covariance = squares / max(count, 1) - np.outer(mean, mean)  # (D, D)
    directions = normalize(texts)  # (M, D)
    variance = np.einsum("md,md->m", directions @ covariance.astype(np.float32), directions)  # (M,)
    return scale * (directions @ mean.astype(np.float32)), scale * np.sqrt(np.maximum(variance, 0))


def z_scores(scores: Array, mean: Array, deviation: Array, scale: float) -> Array:
    """Return scores in deviations from their mean, any shapes that broadcast; 0 where nothing varies."""
    least = 1e-6 * scale  # rounding, not variation
    return np.where(deviation > least, (scores - mean) / np.maximum(deviation, least), np.float32(0))


def mutual_nearest(alike: Array) -> list[tuple[int, int]]:
    """Return the (row, column) pairs of a similarity (A, B) that are each other's best.

    Equal best values can leave no such pair; then it is the first best one of all.
    """
    across, back = alike.argmax(axis=1).tolist(), alike.argmax(axis=0).tolist()  # (A,), (B,)
    pairs = [(row, column) for row, column in enumerate(across) if back[column] == row]
    return pairs or [divmod(int(alike.argmax()), alike.shape[1])]
