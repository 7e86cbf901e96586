"""Image means: what a few images give without descriptors, the reference beside a learning curve.

The mean of all shots is taken off every image. An image's score of a class is its mean similarity with the
class's texts plus `blend` times its cosine with the mean of the class's shots. The blend is chosen as a
strength is (see strength.py): 0 is zero-shot. Cosines of images differ far more than those with texts, so
log-losses are compared at each blend's own best temperature. No sentence explains such a score.

Source: nearest class mean of centred vectors of unit length is Wang et al., SimpleShot (2019).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, Indices, normalize
from fieldmarks.learning.calibration import temperature
from fieldmarks.learning.learn import equal_weights
from fieldmarks.learning.shots import Shots
from fieldmarks.learning.strength import decide, folds_of, judged, sorted_by_fold

BLENDS: Final = (0.0, *(2.0**power for power in range(-9, 5)))  # at the last, text hardly counts


@dataclass(frozen=True, slots=True, eq=False)
class ImageMeans:
    """The mean (D,) of some images, and those (C, D) of each class's centred ones; 0 for a class without."""

    centre: Array
    classes: Array

    @classmethod
    def of(cls, vectors: Array, labels: Indices, classes: int) -> "ImageMeans":
        """Return the means of images (n, D) of unit length with classes (n,)."""
        centre: Array = vectors.mean(axis=0, dtype=np.float32)
        sums = np.zeros((classes, vectors.shape[1]), np.float32)
        np.add.at(sums, labels, _unit(vectors - centre))
        return cls(centre, _unit(sums))

    def scores(self, vectors: Array) -> Array:
        """Return the cosines (n, C) of centred images with the means of the classes."""
        scores: Array = _unit(vectors - self.centre) @ self.classes.T
        return scores


def _unit(vectors: Array) -> Array:
    """Return vectors of unit length; 0 stays 0, as where the only image is the mean itself."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = (vectors / np.where(lengths > 0, lengths, np.float32(1))).astype(np.float32)
    return unit


def text_scores(head: Head, vectors: Array) -> Array:
    """Return the mean similarities (n, C) of images with the texts of each class."""
    scores: Array = equal_weights(head).logits(vectors) / np.float32(head.scale)
    return scores


def blend_of(head: Head, shots: Shots, seed: int = 0) -> float:
    """Return how much the means of images count, chosen by cross-validation inside the shots."""
    folds = folds_of(shots.labels)
    if folds < 2:
        return 0.0
    order, fold = sorted_by_fold(shots.labels, folds, seed)
    ordered = shots.take(order)
    by_text = text_scores(head, ordered.vectors)
    by_mean = np.empty_like(by_text)
    for held in range(folds):
        out = fold == held
        means = ImageMeans.of(ordered.vectors[~out], ordered.labels[~out], len(head.classes))
        by_mean[out] = means.scores(ordered.vectors[out])
    figures = []
    for blend in BLENDS:
        scores = by_text + np.float32(blend) * by_mean
        warmth = temperature(scores, ordered.labels)
        figures.append(judged(scores.astype(np.float64) / warmth, ordered.labels))
    losses, errors = (np.stack(rows) for rows in zip(*figures, strict=True))
    return decide(losses, errors, folds, BLENDS).strength


def answers(head: Head, shots: Shots, blend: float, vectors: Array) -> Indices:
    """Return the best class (n,) of images (n, D)."""
    unit = normalize(vectors)
    scores = text_scores(head, unit)
    if blend:
        means = ImageMeans.of(shots.vectors, shots.labels, len(head.classes))
        scores = scores + np.float32(blend) * means.scores(unit)
    best: Indices = scores.argmax(axis=1)
    return best
