"""The arithmetic of classification: pure functions from embeddings to scores.

N pictures, M texts, C classes, D dimensions. Embeddings come from CLIP after its projection and are
not of unit length; `owner` (M,) holds the class index of each text; `scale` is exp(logit_scale).
"""

from collections.abc import Iterable
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Aggregation = Literal["mean-embedding", "mean-unit-embedding", "mean-similarity", "max-similarity"]
AGGREGATIONS: Final[tuple[Aggregation, ...]] = (
    "mean-embedding",
    "mean-unit-embedding",
    "mean-similarity",
    "max-similarity",
)


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosine of every picture and every text: (N, D), (M, D) -> (N, M). A zero vector gives 0."""
    return normalize(images, dim=-1) @ normalize(texts, dim=-1).T


def class_means(rows: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Return the mean of each class's rows: (M, D), (M,) -> (C, D). A class without rows gives zeros."""
    sums = rows.new_zeros(classes, rows.shape[1]).index_add_(0, owner, rows)  # (C, D)
    counts = torch.bincount(owner, minlength=classes).clamp(min=1)  # (C,)
    return sums / counts[:, None]


def class_matrix(texts: Tensor, owner: Tensor, classes: int, aggregation: Aggregation) -> Tensor:
    """Return the matrix W (C, D) for which a class's pooled cosine is unit(image) @ W.T.

    - mean-embedding: mean of the embeddings, then unit length (the article);
    - mean-unit-embedding: mean of the unit embeddings, then unit length (open_clip, CuPL);
    - mean-similarity: mean of the unit embeddings, which makes the product the mean of the cosines
      (Menon & Vondrick).

    `max-similarity` is no product with one vector a class: it raises ValueError.
    """
    if aggregation == "max-similarity":
        raise ValueError("max-similarity has no class matrix")
    rows = texts if aggregation == "mean-embedding" else normalize(texts, dim=-1)  # (M, D)
    means = class_means(rows, owner, classes)  # (C, D)
    return means if aggregation == "mean-similarity" else normalize(means, dim=-1)


def class_logits(
    images: Tensor, texts: Tensor, owner: Tensor, classes: int, scale: float, aggregation: Aggregation
) -> Tensor:
    """Return the class logits (N, C): scale times the pooled cosine of picture and class."""
    if aggregation != "max-similarity":
        weights = class_matrix(texts, owner, classes, aggregation)  # (C, D)
        return scale * (normalize(images, dim=-1) @ weights.T)
    similarity = cosines(images, texts)  # (N, M)
    lowest = similarity.new_full((len(images), classes), -1.0)  # (N, C), the least cosine there is
    return scale * lowest.scatter_reduce(1, owner.expand_as(similarity), similarity, "amax")


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax over the given classes: (N, C) -> (N, C), rows summing to 1.

    For models trained with a sigmoid (SigLIP) these are still shares among the given classes, not the
    model's own probability of each pair; its logit bias adds the same to all classes and drops out.
    """
    return logits.softmax(dim=-1)


def mark_scores(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Return S(descriptor) = scale · cos(image, text) of every text, not normalised over texts: (N, M)."""
    return scale * cosines(images, texts)


def usual_scores(images: Iterable[Tensor], texts: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (M,) of each S(descriptor) over pictures, given in batches (N, D).

    They make marks comparable, which raw scores of different texts are not: z = (S - mean) / deviation.
    """
    count = 0
    total, squares = texts.new_zeros(2, len(texts), dtype=torch.float64)  # (M,) each
    for batch in images:
        scores = mark_scores(batch, texts, scale).double()  # (N, M)
        count += len(scores)
        total += scores.sum(dim=0)
        squares += scores.square().sum(dim=0)
    mean = total / max(count, 1)
    deviation = (squares / max(count, 1) - mean.square()).clamp(min=0).sqrt()
    return mean.float(), deviation.float()


def z_scores(scores: Tensor, mean: Tensor, deviation: Tensor, scale: float) -> Tensor:
    """Return scores in deviations from their mean, any shapes that broadcast; 0 where nothing varies."""
    least = 1e-6 * scale  # rounding, not variation
    return torch.where(
        deviation > least, (scores - mean) / deviation.clamp(min=least), torch.zeros_like(scores)
    )


def mutual_nearest(alike: Tensor) -> list[tuple[int, int]]:
    """Return the (row, column) pairs of a similarity (A, B) that are each other's best.

    Equal best values can leave no such pair; then it is the first best one of all.
    """
    across, back = alike.argmax(dim=1).tolist(), alike.argmax(dim=0).tolist()  # (A,), (B,)
    pairs = [(row, column) for row, column in enumerate(across) if back[column] == row]
    return pairs or [divmod(int(alike.argmax()), alike.shape[1])]
