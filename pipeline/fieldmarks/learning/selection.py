"""Few descriptors: which of a class's texts to keep, and what accuracy they give.

From all texts the path goes down to `fewest` of each class. At each step every class that has the most texts
loses the one without which the images' log-loss is least, if the weights of its others grow in proportion;
then the weights of what is left are fitted anew, anchored at equal ones. So the path is the same for learned
weights and for equal ones, at infinite strength. What it is worth is measured by walking it anew inside each
fold of a cross-validation: the held-out images had no part in the choice of texts either.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, Indices, Pooling, cosines, indices_by_class
from fieldmarks.classification.texts import Texts
from fieldmarks.learning.model import Floats, OwnWeights, fit
from fieldmarks.learning.shots import Shots
from fieldmarks.learning.strength import ZERO_SHOT, judged, sorted_by_fold


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some texts (their indices, ascending) with their weights (M,) and the bias (C,) of classes."""

    texts: Indices
    weights: Floats
    bias: Floats

    def scores(self, similarities: Array, owner: Indices) -> Floats:
        """Return the scores (n, C) of images with these similarities (n, all texts)."""
        scores = np.tile(self.bias, (len(similarities), 1))
        for column, own in enumerate(indices_by_class(owner[self.texts], len(self.bias))):
            scores[:, column] += similarities[:, self.texts[own]].astype(np.float64) @ self.weights[own]
        return scores


def path(
    similarities: Array, owner: Indices, labels: Indices, scale: float, strength: float, fewest: int
) -> Iterator[tuple[int, Selection]]:
    """Yield the most texts of a class with their selection, from all texts to `fewest` of each class.

    `similarities` (n, M) are those of images with classes `labels` (n,) to texts with classes `owner` (M,).
    """
    classes = int(owner.max()) + 1
    texts = np.arange(len(owner))
    while True:
        form = OwnWeights(similarities[:, texts], owner[texts], classes)
        found = form.weights(fit(form, labels, [slice(0, len(labels))], scale=scale, strength=strength))
        weights = found.texts[owner[texts], np.arange(len(texts))].astype(np.float64)
        selection = Selection(texts, weights, found.bias.astype(np.float64))
        counts = np.bincount(owner[texts], minlength=classes)
        yield int(counts.max()), selection
        if counts.max() <= fewest:
            return
        losses = losses_without(selection, similarities, owner, labels, scale)
        drop = [
            own[losses[own].argmin()]
            for own in indices_by_class(owner[texts], classes)
            if len(own) == counts.max()
        ]
        texts = np.delete(texts, drop)


def losses_without(
    selection: Selection, similarities: Array, owner: Indices, labels: Indices, scale: float
) -> Floats:
    """Return the images' log-loss without each of the selected texts, (M,).

    The weights of the class's other texts grow in proportion; a text that has all the weight is not to be
    left out: then the loss is infinite.
    """
    scores = selection.scores(similarities, owner)
    logits = scale * scores
    most = logits.max(axis=1, keepdims=True)
    apart = np.exp(logits - most)
    total = apart.sum(axis=1)
    rows = np.arange(len(labels))
    losses = np.full(len(selection.texts), np.inf)
    plain = most[:, 0] + np.log(total) - logits[rows, labels]
    for column, own in enumerate(indices_by_class(owner[selection.texts], len(selection.bias))):
        weights = selection.weights[own]
        rest = weights.sum() - weights
        parts = similarities[:, selection.texts[own]].astype(np.float64) * weights
        pooled = scores[:, column] - selection.bias[column]
        for place, text in enumerate(own):
            if rest[place] <= 1e-12:
                continue
            grown = (pooled - parts[:, place]) * (weights.sum() / rest[place]) + selection.bias[column]
            change = np.exp(np.minimum(scale * grown - most[:, 0], 700)) - apart[:, column]
            loss = most[:, 0] + np.log(np.maximum(total + change, 1e-300))
            loss = loss - np.where(labels == column, scale * grown, logits[rows, labels])
            losses[text] = float((loss - plain).sum())
    losses[np.isfinite(losses)] += float(plain.sum())
    return losses


def few_descriptors(
    head: Head, shots: Shots, strength: float, fewest: int, seed: int, folds: int
) -> tuple[Head, dict[int, float]]:
    """Return the head with at most `fewest` texts of each class, and the accuracy that each number promises.

    Accuracies are those of cross-validation in so many folds, by the most texts of a class.
    """
    order, fold = sorted_by_fold(shots.labels, folds, seed)
    ordered = shots.take(order)
    similarities = cosines(ordered.vectors, head.embeddings)
    right: dict[int, list[NDArray[np.bool_]]] = {}
    for held in range(folds):
        out = fold == held
        walked = path(similarities[~out], head.owner, ordered.labels[~out], head.scale, strength, fewest)
        for count, selection in walked:
            _, wrong = judged(selection.scores(similarities[out], head.owner), ordered.labels[out])
            right.setdefault(count, []).append(~wrong)
    expected = {count: float(np.concatenate(parts).mean()) for count, parts in right.items()}
    for _, selection in path(similarities, head.owner, ordered.labels, head.scale, strength, fewest):
        last = selection
    return _with_texts(head, last, is_equal=strength == ZERO_SHOT), expected


def _with_texts(head: Head, selection: Selection, *, is_equal: bool) -> Head:
    """Return a head of the selected texts alone, with their weights."""
    rows = selection.texts.tolist()
    texts = head.texts
    owner = head.owner[selection.texts]
    weights = None
    if not is_equal:
        weights = np.zeros((len(texts.classes), len(rows)), np.float32)
        weights[owner, np.arange(len(rows))] = selection.weights
    return replace(
        head,
        texts=Texts(
            texts.classes,
            tuple(owner.tolist()),
            tuple(texts.descriptors[row] for row in rows),
            tuple(texts.texts[row] for row in rows),
        ),
        embeddings=head.embeddings[selection.texts],
        pooling=Pooling.named("mean-similarity", weights),
        bias=None if is_equal else selection.bias.astype(np.float32),
        digests=None,
    )
