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
    lengths = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)  # (N, 1); no square overflows
    unit: Array = (rows / np.maximum(lengths, _SHORTEST)).astype(np.float32)
    return unit


def cosines(images: Array, texts: Array) -> Array:
    """Return the cosine of every picture and every text: (N, D), (M, D) -> (N, M). A zero vector gives 0."""
    return normalize(images) @ normalize(texts).T


def class_means(rows: Array, owner: Indices, classes: int) -> Array:
    """Return the mean of each class's rows: (M, D), (M,) -> (C, D). A class without rows gives zeros."""
    order = np.argsort(owner, kind="stable")
    present, starts, counts = np.unique(owner[order], return_index=True, return_counts=True)
    means = np.zeros((classes, rows.shape[1]), np.float32)  # (C, D)
    means[present] = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64) / counts[:, None]
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


def class_logits(
    images: Array, texts: Array, owner: Indices, classes: int, scale: float, aggregation: Aggregation
) -> Array:
    """Return the class logits (N, C): scale times the pooled cosine of picture and class."""
    if aggregation != "max-similarity":
        weights = class_matrix(texts, owner, classes, aggregation)  # (C, D)
        return scale * (normalize(images) @ weights.T)
    similarity = cosines(images, texts)  # (N, M)
    highest = np.full((len(images), classes), -1.0, np.float32)  # (N, C), the least cosine there is
    np.maximum.at(highest.T, owner, similarity.T)
    return scale * highest


def probabilities(logits: Array) -> Array:
    """Return the softmax over the given classes: (N, C) -> (N, C), rows summing to 1.

    For models trained with a sigmoid (SigLIP) these are still shares among the given classes, not the
    model's own probability of each pair; its logit bias adds the same to all classes and drops out.
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))  # the best becomes 1: nothing overflows
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def mark_scores(images: Array, texts: Array, scale: float) -> Array:
    """Return S(descriptor) = scale · cos(image, text) of every text, not normalised over texts: (N, M)."""
    return scale * cosines(images, texts)


def usual_scores(images: Iterable[Array], texts: Array, scale: float) -> tuple[Array, Array]:
    """Return mean and standard deviation (M,) of each S(descriptor) over pictures, given in batches (N, D).

    They make marks comparable, which raw scores of different texts are not: z = (S - mean) / deviation.
    """
    count = 0
    total, squares = np.zeros((2, len(texts)))  # (M,) each
    for batch in images:
        scores = mark_scores(batch, texts, scale).astype(np.float64)  # (N, M)
        count += len(scores)
        total += scores.sum(axis=0)
        squares += np.square(scores).sum(axis=0)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - np.square(mean), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)


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
