"""Scoring: from the embeddings of texts and images to the scores of classes, without a model.

N images, M texts, C classes, D dimensions. Embeddings come from CLIP after its projection and are not of
unit length; `owner` (M,) holds the class index of each text; `scale` is exp(logit_scale). A `Pooling` says
how a class's texts become one score, and a `Scorer` applies it; below and between them are pure functions of
arrays.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import Aggregation, check_choice

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
_SHORTEST: Final = 1e-12  # a shorter vector has no direction
_OF_GROUP: Final = 64  # scores of which the highest stands for all, where there are many


def normalize(rows: Array) -> Array:
    """Return rows of unit length: (N, D) -> (N, D). A zero vector stays zero."""
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)  # (N,), wide enough not to overflow
    lengths = np.maximum(np.sqrt(squares), _SHORTEST)[:, None]  # (N, 1)
    unit: Array = np.divide(rows, lengths, out=np.empty_like(rows, np.float32), casting="same_kind")
    return unit


def cosines(images: Array, texts: Array) -> Array:
    """Return the cosine of every image and every text: (N, D), (M, D) -> (N, M). A zero vector gives 0."""
    return normalize(images) @ normalize(texts).T


def indices_by_class(owner: Indices, classes: int) -> list[Indices]:
    """Return which texts are each class's: (M,) -> C arrays of indices."""
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.searchsorted(owner[order], np.arange(1, classes)))


def class_means(rows: Array, owner: Indices, classes: int) -> Array:
    """Return the mean of each class's rows: (M, D), (M,) -> (C, D). A class without rows gives zeros."""
    means = np.zeros((classes, rows.shape[1]), np.float32)  # (C, D)
    for mean, own in zip(means, indices_by_class(owner, classes), strict=True):
        if len(own):
            mean[:] = rows[own].mean(axis=0, dtype=np.float64)
    return means


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pooling:
    """How the texts of a class become one score for an image.

    `unit_texts`: each text's embedding is brought to unit length first. `reduce`: the class is the mean of
    its texts, or its best text. `unit_classes`: the mean is brought to unit length; without, it is a mean of
    similarities, since the mean of some products with an image is the product with their mean. `weights`
    (C, M) replace the mean's 1 / M_c and may reach texts of other classes.

    | name                  | each text     | class                                  | used by            |
    | mean-embedding        | as it is      | mean, unit length                      | the article        |
    | mean-unit-embedding   | unit length   | mean, unit length                      | open_clip, CuPL    |
    | mean-similarity       | unit length   | mean of the cosines with the image     | Menon & Vondrick   |
    | max-similarity        | unit length   | largest cosine with the image          |                    |

        pooling = Pooling.named("mean-embedding")
        scores = pooling.scores(images, texts, owner, classes)  # (N, D), (M, D), (M,) -> (N, C)
    """

    unit_texts: bool
    unit_classes: bool
    reduce: Literal["mean", "max"] = "mean"
    weights: Array | None = None

    def __post_init__(self) -> None:
        if (self.unit_texts, self.unit_classes, self.reduce) not in _NAMES:
            raise ValueError(f"{self} is not one of {', '.join(_NAMES.values())}")
        if self.weights is not None and self.reduce == "max":
            raise ValueError("weights need a mean; max-similarity has none")

    @classmethod
    def named(cls, aggregation: Aggregation, weights: Array | None = None) -> "Pooling":
        """Return the pooling of this name. Raises UsageError for an unknown one."""
        check_choice("aggregate", aggregation, Aggregation)
        unit_texts, unit_classes, reduce = next(key for key, name in _NAMES.items() if name == aggregation)
        return cls(unit_texts=unit_texts, unit_classes=unit_classes, reduce=reduce, weights=weights)

    @property
    def name(self) -> Aggregation:
        """The name of this pooling, whatever its weights."""
        return _NAMES[self.unit_texts, self.unit_classes, self.reduce]

    def class_weights(self, texts: Array, owner: Indices, classes: int) -> Array | None:
        """Return W (C, D) for which an image's scores are unit(image) @ W.T; None for a maximum.

        `texts` (M, D) are embeddings and `owner` (M,) their class indices.
        """
        if self.reduce == "max":
            return None
        rows = normalize(texts) if self.unit_texts else texts  # (M, D)
        if self.weights is None:
            vectors = class_means(rows, owner, classes)  # (C, D)
        else:
            vectors = (self.weights.astype(np.float64) @ rows).astype(np.float32)  # (C, D)
        return normalize(vectors) if self.unit_classes else vectors

    def scorer(self, texts: Array, owner: Indices, classes: int) -> "Scorer":
        """Return the scorer for these texts (M, D), prepared once for any number of images."""
        matrix = self.class_weights(texts, owner, classes)
        if matrix is not None:
            return Scorer(matrix, classes)
        order = np.argsort(owner, kind="stable")
        present, starts = np.unique(owner[order], return_index=True)
        return Scorer(normalize(texts[order]), classes, partial(_largest, present, starts, classes))

    def scores(self, images: Array, texts: Array, owner: Indices, classes: int) -> Array:
        """Return the pooled cosines, before the scale: (N, D), (M, D), (M,) -> (N, C).

        A class without texts scores 0, or -inf with a maximum.
        """
        return self.scorer(texts, owner, classes)(normalize(images))

    def without_each(self, texts: Array, owner: Indices, names: Array) -> "Scorer":
        """Return the leave-one-out scorer: each text's class without that text, (N, D) -> (N, M).

        A class of one text has its name's embedding, a row of `names` (C, D), in its place.
        """
        classes = indices_by_class(owner, len(names))
        if self.reduce == "max":
            alone = np.array([own[0] for own in classes if len(own) == 1], np.int64)
            lengths = sorted({len(own) for own in classes if len(own) > 1})
            groups = [np.stack([own for own in classes if len(own) == length]) for length in lengths]
            rows = normalize(np.concatenate([texts, names[owner[alone]]]))  # (M + alone, D)
            return Scorer(rows, len(texts), partial(_largest_other, alone, groups, len(texts)))
        rows = np.empty_like(texts)  # (M, D)
        for own, name in zip(classes, names, strict=True):
            rows[own] = self._without_each(texts[own], name[None])
        return Scorer(rows, len(rows))

    def _without_each(self, texts: Array, name: Array) -> Array:
        """Return a class's vectors without each of its texts: (K, D), (1, D) -> (K, D)."""
        count = len(texts)
        others = [np.delete(np.arange(count), row) for row in range(count)]
        rows, places = texts[np.concatenate(others)], np.repeat(np.arange(count), count - 1)
        if count == 1:
            rows, places = name, np.zeros(1, np.int64)
        vectors = self.class_weights(rows, places, count)  # each text's rest as a class of its own
        assert vectors is not None
        return vectors


_NAMES: Final[Mapping[tuple[bool, bool, Literal["mean", "max"]], Aggregation]] = {
    (False, True, "mean"): "mean-embedding",
    (True, True, "mean"): "mean-unit-embedding",
    (True, False, "mean"): "mean-similarity",
    (True, False, "max"): "max-similarity",
}


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Scores of images by prepared texts: products with `rows` (K, D), `reduce`d to `columns` scores.

    Its argument is image embeddings (N, D) of unit length, or of the length `scale` for logits.
    """

    rows: Array
    columns: int
    reduce: Callable[[Array], Array] | None = None  # (N, K) -> (N, columns)

    def __call__(self, images: Array) -> Array:
        """Return the scores of some images: (N, D) -> (N, columns)."""
        products: Array = images @ self.rows.T
        return products if self.reduce is None else self.reduce(products)

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return int(self.rows.shape[1])

    @property
    def width(self) -> int:
        """How many floats an image needs while it is scored."""
        return max(len(self.rows), self.columns)


def _largest(present: Indices, starts: Indices, classes: int, products: Array) -> Array:
    """Return each class's largest product: (N, M), class after class -> (N, C); -inf for an absent class."""
    scores = np.full((len(products), classes), -np.inf, np.float32)  # (N, C)
    scores[:, present] = np.maximum.reduceat(products, starts, axis=1)
    return scores


def _largest_other(alone: Indices, groups: Sequence[Indices], texts: int, products: Array) -> Array:
    """Return, for each of M texts, the largest product of its class's others: (N, M + alone) -> (N, M).

    That is the class's largest, or the second largest for the text that has the largest. `groups` hold the
    classes of equally many texts, at least two, (classes, texts of each); `alone` are the texts of classes of
    one, whose products are the last ones.
    """
    scores = np.empty((len(products), texts), np.float32)  # (N, M)
    for group in groups:
        own = products[:, group]  # (N, classes, texts of each)
        second, first = np.moveaxis(np.partition(own, -2, axis=-1)[..., -2:], -1, 0)[..., None]
        scores[:, group] = np.where(own == first, second, first)
    scores[:, alone] = products[:, texts:]
    return scores


def best_first(scores: Array, top: int | None = None) -> Indices:
    """Return the columns of each row's `top` highest scores, or of all: (N, C) -> (N, top).

    The best comes first, and of equal ones the one that stands first.
    """
    rows, columns = scores.shape
    if top is None or top >= columns:
        return np.argsort(-scores, axis=1, kind="stable")
    # The best of `top` groups are that many scores, so the least of them bounds what is taken, exactly where
    # each score is a group. To find it among groups takes a third of the time.
    groups = columns // _OF_GROUP if columns >= _OF_GROUP * _OF_GROUP * top else columns
    size = columns // groups
    highest = scores[:, : groups * size].reshape(rows, size, groups).max(axis=1)  # (N, groups)
    least = np.partition(highest, groups - top, axis=1)[:, groups - top]  # (N,)
    cells = np.flatnonzero(~(scores < least[:, None]))  # all equal to it too; of a row of NaN, all
    row, column = np.divmod(cells, columns)
    order = np.lexsort((-scores.ravel()[cells], row))  # stable: equal scores stay in the columns' order
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


def shares_of(logits: Array, shown: Array) -> Array:
    """Return the `probabilities` of some of each row's classes: (N, C), (N, top) -> (N, top).

    `logits` are overwritten: with many classes, another array of their size costs as much as the softmax.
    """
    highest = logits.max(axis=-1, keepdims=True)
    np.subtract(logits, highest, out=logits)
    np.exp(logits, out=logits)
    shares: Array = np.exp(shown - highest) / logits.sum(axis=-1, keepdims=True)
    return shares


def mark_scores(images: Array, texts: Array, scale: float) -> Array:
    """Return S(descriptor) = scale · cos(image, text) of every text, not normalised over texts: (N, M)."""
    return scale * cosines(images, texts)


def score_statistics(images: Iterable[Array], texts: Array, scale: float) -> tuple[Array, Array]:
    """Return mean and standard deviation (M,) of each S(descriptor) over images, given in batches (N, D).

    They make marks comparable, which raw scores of different texts are not: z = (S - mean) / deviation.
    As a score is linear in the image, the images' own mean and covariance give both.
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
    """Return scores as z-scores, for any shapes that broadcast; 0 where the deviation is 0."""
    least = 1e-6 * scale  # rounding, not variation
    return np.where(deviation > least, (scores - mean) / np.maximum(deviation, least), np.float32(0))


def mutual_nearest(similarity: Array) -> list[tuple[int, int]]:
    """Return the (row, column) pairs of a similarity (A, B) that are each other's best.

    Equal best values can leave no such pair; then it is the first best one of all.
    """
    across, back = similarity.argmax(axis=1).tolist(), similarity.argmax(axis=0).tolist()  # (A,), (B,)
    pairs = [(row, column) for row, column in enumerate(across) if back[column] == row]
    return pairs or [divmod(int(similarity.argmax()), similarity.shape[1])]
