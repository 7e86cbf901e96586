"""The head: texts, their embeddings and a pooling, which turn image embeddings into scores.

Nothing here needs a model: a head scores images that were embedded anywhere by the same model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from fieldmarks.classification import scoring
from fieldmarks.classification.results import Explanation, Mark, Score
from fieldmarks.classification.scoring import Array, Indices, Pooling, Scorer, normalize
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import ModelError

CELLS: Final = 2**22  # scores computed at once, 16 MB

Statistics = tuple[Array, Array]  # mean and standard deviation (M,) of each text's score


@dataclass(frozen=True)
class Head:
    """The classifier proper: C classes, M texts, D dimensions.

    `embeddings` (M, D) and `baseline` (C, D; the name prompts, if they are to be compared) are not of unit
    length; `logit_scale` is the factor of the cosines, which 1 / `temperature` replaces; `bias` (C,) is added
    to the classes' pooled cosines; `metadata` says where all this came from. Raises ModelError where the
    shapes do not fit together.
    """

    texts: Texts
    embeddings: Array
    logit_scale: float
    pooling: Pooling = field(default_factory=lambda: Pooling.named("mean-embedding"))
    baseline: Array | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    bias: Array | None = None
    temperature: float | None = None

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

    @property
    def is_learned(self) -> bool:
        """Whether scores depend on more than texts, pooling and scale."""
        return self.pooling.weights is not None or self.bias is not None

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
        """Return what the name prompts alone answer for each image; None without a baseline."""
        names = self._unit_baseline
        if names is None:
            return [None] * len(images)
        ranked = self._ranked(images, lambda part: self._scaled(part) @ names.T, 1)
        return [best for (best,) in ranked]

    def statistics(self, images: Iterable[Array]) -> Statistics:
        """Return how each text scores on images in general, in batches (N, D); for `explain`."""
        return scoring.score_statistics(images, self.embeddings, self.scale)

    def explain(
        self, image: Array, scores: Sequence[Score], statistics: Statistics | None = None
    ) -> Explanation:
        """Return the marks on `image` (D,) of the first two classes of `scores`, and what decided.

        `statistics` relate each mark to how its text scores on images in general.
        """
        rows = [self._texts_of[score.name] for score in scores[:2]]
        marks = [self._marks(image, own, statistics) for own in rows]
        if len(scores) < 2:
            return Explanation(_strongest_first(marks[0]), (), None)
        similarity = scoring.cosines(self.embeddings[rows[0]], self.embeddings[rows[1]])
        pairs = [(marks[0][row], marks[1][column]) for row, column in scoring.mutual_nearest(similarity)]
        lead, against = max(pairs, key=lambda pair: pair[0].strength - pair[1].strength)
        decided = (lead, against) if lead.strength > against.strength else None
        return Explanation(_strongest_first(marks[0]), _strongest_first(marks[1]), decided)

    def _scaled(self, images: Array) -> Array:
        scaled: Array = normalize(images) * np.float32(self.scale)  # fewer numbers than the logits are
        return scaled

    @cached_property
    def _unit_baseline(self) -> Array | None:
        return None if self.baseline is None else normalize(self.baseline)  # (C, D)

    @cached_property
    def _texts_of(self) -> dict[str, Indices]:
        """The indices of each class's texts."""
        return dict(zip(self.classes, scoring.indices_by_class(self.owner, len(self.classes)), strict=True))

    def _marks(self, image: Array, rows: Indices, statistics: Statistics | None) -> list[Mark]:
        texts = self.embeddings[rows]
        logits = scoring.mark_scores(image[None], texts, self.scale)[0]  # (texts of the class,)
        zs: list[float | None] = [None] * len(logits)
        if statistics is not None:
            mean, deviation = statistics[0][rows], statistics[1][rows]
            zs = scoring.z_scores(logits, mean, deviation, self.scale).tolist()
        return [
            Mark(self.classes[self.texts.owner[row]], self.texts.descriptors[row], logit, z)
            for row, logit, z in zip(rows.tolist(), logits.tolist(), zs, strict=True)
        ]

    def _ranked(
        self, images: Array, logits: Callable[[Array], Array], top: int | None
    ) -> list[tuple[Score, ...]]:
        rows = max(1, CELLS // max(self.scorer.width, self.dim))  # images at once
        parts = (logits(images[at : at + rows]) for at in range(0, len(images), rows))
        return [scores for part in parts for scores in self._best(part, top)]

    def _best(self, logits: Array, top: int | None) -> list[tuple[Score, ...]]:
        best = scoring.best_first(logits, top)  # (N, top)
        shares = scoring.probabilities(logits)  # (N, C)
        numbers = (np.take_along_axis(values, best, axis=1).tolist() for values in (shares, logits))
        return [
            tuple(map(Score, map(self.classes.__getitem__, indices), *pair))
            for indices, *pair in zip(best.tolist(), *numbers, strict=True)
        ]


def _strongest_first(marks: list[Mark]) -> tuple[Mark, ...]:
    return tuple(sorted(marks, key=lambda mark: -mark.strength))
