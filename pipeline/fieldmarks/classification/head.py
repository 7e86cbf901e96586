"""The head, the classifier proper: ranks classes by the logits of their texts, and explains by marks.

N images, M texts, C classes, D dimensions, as in scoring.py, whose functions and `Pooling` it applies.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.broader import parents_in
from fieldmarks.classification.results import Explanation, Mark, Score
from fieldmarks.classification.scoring import (
    Array,
    Indices,
    Pooling,
    Scorer,
    best_first,
    cosines,
    indices_by_class,
    mark_scores,
    mutual_nearest,
    normalize,
    score_statistics,
    shares_of,
    z_scores,
)
from fieldmarks.classification.texts import Texts
from fieldmarks.classification.threads import cores, for_each
from fieldmarks.errors import ModelError
from fieldmarks.store.learned_weights import ClassWeights
from fieldmarks.text import comparable

OTHERS_SHOWN: Final = 5  # descriptors of other classes among a class's marks, where weights reach them
CELLS: Final = 2**23  # scores computed at once, 32 MB: fewer rows make the product of matrices slower
_IN_CACHE: Final = 2**18  # scores, 1 MB, that are sorted and made probabilities at once
_WORTH_THREADS: Final = 8  # of these parts
DIGEST: Final = 16  # bytes that identify an image

Statistics = tuple[Array, Array]  # mean and standard deviation (M,) of each text's score


@dataclass(frozen=True)
class Head:
    """The classifier proper: C classes, M texts, D dimensions.

    `embeddings` (M, D) and `baseline` (C, D; the name prompts, if they are to be compared) are not of unit
    length; `logit_scale` is the factor of the cosines, which 1 / `temperature` replaces; `bias` (C,) is added
    to the classes' pooled cosines; `digests` (n, 16) identify the images that it was learned or
    calibrated on; `thresholds` (C,) are the least pooled cosines, bias included, of each class's label;
    `conformal_quantile` is what the probabilities in a set of labels lack at most of 1; `metadata` says where
    all this came from. Raises ModelError where the shapes do not fit together.
    """

    texts: Texts
    embeddings: Array
    logit_scale: float
    pooling: Pooling = field(default_factory=lambda: Pooling.named("mean-embedding"))
    baseline: Array | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    bias: Array | None = None
    temperature: float | None = None
    digests: NDArray[np.uint8] | None = None
    thresholds: Array | None = None
    conformal_quantile: float | None = None

    def __post_init__(self) -> None:
        texts, classes = len(self.texts.texts), len(self.classes)
        if self.embeddings.ndim != 2 or len(self.embeddings) != texts:
            raise ModelError(f"embeddings {tuple(self.embeddings.shape)} do not fit {texts} texts")
        if set(self.texts.owner) != set(range(classes)):
            raise ModelError(f"the texts do not belong to the {classes} classes")
        if self.baseline is not None and self.baseline.shape != (classes, self.dim):
            raise ModelError(f"baseline embeddings {tuple(self.baseline.shape)} do not fit {classes} classes")
        weights = self.pooling.weights
        if weights is not None and weights.shape != (classes, texts):
            raise ModelError(f"weights {weights.shape} do not fit {classes} classes and {texts} texts")
        if self.bias is not None and self.bias.shape != (classes,):
            raise ModelError(f"a bias {self.bias.shape} does not fit {classes} classes")
        if self.temperature is not None and not 1e-6 < self.temperature < float("inf"):
            raise ModelError(f"temperature {self.temperature} is not a positive number")
        if self.thresholds is not None and self.thresholds.shape != (classes,):
            raise ModelError(f"thresholds {self.thresholds.shape} do not fit {classes} classes")
        if self.conformal_quantile is not None and not 0 <= self.conformal_quantile <= 1:
            raise ModelError(f"conformal_quantile {self.conformal_quantile} is not between 0 and 1")
        if self.digests is not None and self.digests.shape[1:] != (DIGEST,):
            raise ModelError(f"digests of images {self.digests.shape} are not (n, {DIGEST})")

    def rejection(self, score: Score) -> str | None:
        """Return why the best class's score is too low for any label; None where it is not, or unknown."""
        if self.thresholds is None:
            return None
        least, value = float(self.thresholds[self.classes.index(score.name)]), score.logit / self.scale
        if value >= least:
            return None
        digits = 3
        while f"{value:.{digits}f}" == f"{least:.{digits}f}" and digits < 9:  # which would read as not under
            digits += 1
        return f"the score of {score.name}, {value:.{digits}f}, is under its threshold {least:.{digits}f}"

    def label_set(self, scores: Sequence[Score]) -> tuple[str, ...] | None:
        """Return the conformal set of labels, best first; `scores` are those of all classes.

        It is None where the head was not calibrated.
        """
        if self.conformal_quantile is None:
            return None
        return tuple(
            score.name for score in scores if 1 - score.probability <= self.conformal_quantile + 1e-7
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the logits' columns."""
        return self.texts.classes

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return int(self.embeddings.shape[-1])

    @cached_property
    def owner(self) -> Indices:
        """The class index of each text, (M,)."""
        return np.array(self.texts.owner, np.int64)

    @property
    def scale(self) -> float:
        """The factor of the cosines."""
        return self.logit_scale if self.temperature is None else 1 / self.temperature

    def weighed(self, learned: Mapping[str, ClassWeights]) -> "Head":
        """Return the head with weights of its classes' own descriptors and offsets, as a store keeps them."""
        counts = np.bincount(self.owner, minlength=len(self.classes))
        weights = np.zeros((len(self.classes), len(self.owner)), np.float32)
        for row, (owner, descriptor) in enumerate(zip(self.owner, self.texts.descriptors, strict=True)):
            weights[owner, row] = learned[self.classes[owner]].of[descriptor] / counts[owner]
        bias = np.array([learned[name].offset for name in self.classes], np.float32)
        return replace(self, pooling=Pooling.named("mean-similarity", weights), bias=bias)

    @property
    def is_learned(self) -> bool:
        """Whether scores depend on learned weights or a bias."""
        return self.pooling.weights is not None or self.bias is not None

    @cached_property
    def parents(self) -> dict[str, str]:
        """The broader class of each class that has one. Raises ModelError."""
        return parents_in(self.metadata)

    @property
    def class_weights(self) -> Array | None:
        """The matrix (C, D) of `Pooling.class_weights`; None for a maximum, which has none."""
        return self.pooling.class_weights(self.embeddings, self.owner, len(self.classes))

    @cached_property
    def scorer(self) -> Scorer:
        """What scores images (N, D) of the length `scale`, prepared once."""
        return self.pooling.scorer(self.embeddings, self.owner, len(self.classes))

    def logits(self, images: Array) -> Array:
        """Return the class logits (N, C) of image embeddings (N, D)."""
        logits = self.scorer(self._scaled(images))
        return logits if self.bias is None else logits + np.float32(self.scale) * self.bias

    def scores(self, images: Array, top: int | None = None) -> list[tuple[Score, ...]]:
        """Return each image's classes, best first, all of them or the `top`."""
        return self._ranked(images, self.logits, top)

    def baseline_scores(self, images: Array) -> list[Score | None]:
        """Return each image's scores under the class-name prompts alone; None without a baseline."""
        names = self._unit_baseline
        if names is None:
            return [None] * len(images)
        ranked = self._ranked(images, lambda part: self._scaled(part) @ names.T, 1)
        return [best for (best,) in ranked]

    def statistics(self, images: Iterable[Array]) -> Statistics:
        """Return how each text scores on images in general, in batches (N, D); for `explain`."""
        return score_statistics(images, self.embeddings, self.scale)

    def explain(
        self, image: Array, scores: Sequence[Score], statistics: Statistics | None = None, top: int = 2
    ) -> Explanation:
        """Return the marks on `image` (D,) of the first `top` classes of `scores`, and what decided.

        `statistics` relate each mark to how its text scores on images in general.
        """
        rows = [self._texts_of[score.name] for score in scores[:top]]
        marks = [self._marks(image, own, statistics) for own in rows]
        if self.is_learned and self.pooling.name == "mean-similarity":
            return self._explained_by_weights(image, scores[:top], marks)
        decided = self._decided(rows, marks)
        predicted, *others = map(_strongest_first, marks)
        return Explanation(predicted, others[0] if others else (), decided, tuple(others[1:]))

    def _explained_by_weights(
        self, image: Array, scores: Sequence[Score], marks: Sequence[list[Mark]]
    ) -> Explanation:
        """Return the marks of the own texts with their weights, and those of other texts that weigh most."""
        logits = mark_scores(image[None], self.embeddings, self.scale)[0]  # (M,)
        own, sides, offsets = [], [], []
        for score, plain in zip(scores, marks, strict=True):
            rows = self._texts_of[score.name]
            weights = self._weights[self.classes.index(score.name)]  # (M,)
            parts = weights * logits
            apart = np.abs(parts)
            apart[rows] = 0
            others = [int(row) for row in best_first(apart[None], OTHERS_SHOWN)[0] if apart[row]]
            weighed = [
                replace(mark, weight=float(weights[row] * len(rows)), contribution=float(parts[row]))
                for mark, row in zip(plain, rows.tolist(), strict=True)
            ]
            own.append(weighed)
            sides.append(
                weighed
                + [
                    Mark(
                        score.name,
                        self.texts.descriptors[row],
                        float(logits[row]),
                        weight=float(weights[row] * len(rows)),
                        contribution=float(parts[row]),
                        source=self.classes[self.owner[row]],
                    )
                    for row in others
                ]
            )
            offsets.append(score.logit - sum(mark.contribution or 0.0 for mark in sides[-1]))
        decided = self._decided([self._texts_of[score.name] for score in scores], own)
        predicted, *after = map(_strongest_first, sides)
        runner_up = after[0] if after else ()
        return Explanation(predicted, runner_up, decided, tuple(after[1:]), tuple(offsets))

    def _decided(self, rows: Sequence[Indices], marks: Sequence[list[Mark]]) -> tuple[Mark, Mark] | None:
        """Return the pair of marks of the first two classes, alike in meaning, in which the first leads most.

        `rows` are the classes' texts, and `marks` theirs in the same order. A descriptor that both classes
        have tells neither from the other, so it is in no pair.
        """
        if len(rows) < 2:
            return None
        sides = [[self._comparable[row] for row in own] for own in rows[:2]]
        common = set(sides[0]) & set(sides[1])
        first, second = ([place for place, text in enumerate(side) if text not in common] for side in sides)
        if not first or not second:
            return None
        similarity = cosines(self.embeddings[rows[0][first]], self.embeddings[rows[1][second]])
        pairs = [(marks[0][first[row]], marks[1][second[col]]) for row, col in mutual_nearest(similarity)]
        lead, against = max(pairs, key=lambda pair: pair[0].strength - pair[1].strength)
        return (lead, against) if lead.strength > against.strength else None

    @cached_property
    def _comparable(self) -> list[str]:
        """What each text's descriptor shares with those that a store counts as the same."""
        return list(map(comparable, self.texts.descriptors))

    @cached_property
    def _weights(self) -> Array:
        """The weights (C, M); without learned ones, equal ones for the texts of a class."""
        if self.pooling.weights is not None:
            return self.pooling.weights
        counts = np.bincount(self.owner, minlength=len(self.classes))
        weights = np.zeros((len(self.classes), len(self.owner)), np.float32)
        weights[self.owner, np.arange(len(self.owner))] = 1 / counts[self.owner]
        return weights

    def _scaled(self, images: Array) -> Array:
        scaled: Array = normalize(images) * np.float32(self.scale)  # fewer numbers than the logits are
        return scaled

    @cached_property
    def _unit_baseline(self) -> Array | None:
        return None if self.baseline is None else normalize(self.baseline)  # (C, D)

    @cached_property
    def _texts_of(self) -> dict[str, Indices]:
        """The indices of each class's texts."""
        return dict(zip(self.classes, indices_by_class(self.owner, len(self.classes)), strict=True))

    def _marks(self, image: Array, rows: Indices, statistics: Statistics | None) -> list[Mark]:
        texts = self.embeddings[rows]
        logits = mark_scores(image[None], texts, self.scale)[0]  # (texts of the class,)
        zs: list[float | None] = [None] * len(logits)
        if statistics is not None:
            mean, deviation = statistics[0][rows], statistics[1][rows]
            zs = z_scores(logits, mean, deviation, self.scale).tolist()
        return [
            Mark(self.classes[self.texts.owner[row]], self.texts.descriptors[row], logit, z)
            for row, logit, z in zip(rows.tolist(), logits.tolist(), zs, strict=True)
        ]

    def _ranked(
        self, images: Array, logits: Callable[[Array], Array], top: int | None
    ) -> list[tuple[Score, ...]]:
        rows = max(1, CELLS // max(self.scorer.width, self.dim))  # images at once
        parts = (logits(images[at : at + rows]) for at in range(0, len(images), rows))
        return [scores for part in parts for scores in self._best_in_strips(part, top)]

    def _best_in_strips(self, logits: Array, top: int | None) -> Iterator[tuple[Score, ...]]:
        few = max(1, _IN_CACHE // len(self.classes))
        strips = [logits[at : at + few] for at in range(0, len(logits), few)]
        best: list[list[tuple[Score, ...]]] = [[] for _ in strips]

        def rank(number: int) -> None:
            best[number] = self._best(strips[number], top)

        if len(strips) >= _WORTH_THREADS and cores() > 1:
            for_each(rank, range(len(strips)))
        else:
            for number in range(len(strips)):
                rank(number)
        return chain.from_iterable(best)

    def _best(self, logits: Array, top: int | None) -> list[tuple[Score, ...]]:
        best = best_first(logits, top)  # (N, top)
        shown = np.take_along_axis(logits, best, axis=1)  # (N, top)
        numbers = (values.tolist() for values in (shares_of(logits, shown), shown))
        return [
            tuple(map(Score, map(self.classes.__getitem__, indices), *pair))
            for indices, *pair in zip(best.tolist(), *numbers, strict=True)
        ]


def _strongest_first(marks: list[Mark]) -> tuple[Mark, ...]:
    return tuple(sorted(marks, key=lambda mark: -mark.strength))
