"""What an evaluation hands out, and how it becomes plain data.

An evaluation as an object (`fieldmarks evaluate --json FILE`):

    {"v": 1, "settings": {…}, "summary": [sentence…], "notices": […],
     "classes": [name…], "images": [name…], "labels": [class index…], "failures": [{"image", "error"}…],
     "arms": [{"name", "text", "aggregate", "texts", "runs": [{"seed", "predicted", "rank"}…],
               "top1", "top5", "mean_per_class", "difference", "recall", "gain", "confused"}…],
     "effects": [{"class", "descriptor", "effect", "margin", "others_margin", "pictures",
                  "on": {"picture": [index…], "right": [-1, 0 or 1…], "margin": [logits…]}}…],
     "examples": [{"label", "by": {arm: class}, …a prediction}…]}

Images, labels, `predicted` and `rank` run in step, so every figure can be computed again from the object:
`rank` is the number of classes that score above the true one. Shares are from 0 to 1; an estimate is
{"value", "low", "high"}; `effects` is there with ablation, `seed` null where nothing is random. An effect's
figures are the means of what its descriptor changes `on` single pictures; on those not listed, nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.results import Failure, Prediction

FORMAT_VERSION: Final = 1
_MARGIN_DIGITS: Final = 6  # of the margin on one picture, in plain data
_EFFECT: Final = ("descriptor", "effect", "margin", "others_margin", "pictures")

Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much an arm's top-1 leads another's on the same pictures, and McNemar's p.

    `p` is null where the arm is no single run of answers. The interval is of the paired difference.
    """

    to: str
    value: float
    low: float
    high: float
    p: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """What one way of classifying answered: the class index (N,) and the true class's rank (N,) from 0."""

    predicted: Indices
    rank: Indices
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"seed": self.seed, "predicted": self.predicted.tolist(), "rank": self.rank.tolist()}


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pictures of one class that were taken for another; `count` is the mean over an arm's runs."""

    label: int
    predicted: int
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One way of classifying with its figures; random arms have several runs, whose mean the figures are.

    `text` is the template or what stands for it, `texts` are a few of the texts that CLIP read. `top5` is
    None with five classes or fewer, `difference` and `gain` for the arm that the others are compared with.
    """

    name: str
    text: str
    aggregate: str
    texts: tuple[str, ...]
    runs: tuple[Run, ...]
    top1: Estimate
    top5: Estimate | None
    mean_per_class: Estimate
    difference: Difference | None
    recall: tuple[float | None, ...]  # of each class; None without pictures
    gain: tuple[float | None, ...] | None  # of each class, over the arm compared with
    confused: tuple[Confusion, ...]  # most often first

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        plain = {name: getattr(self, name) for name in ("name", "text", "aggregate", "texts")}
        figures = {
            name: value and asdict(value)
            for name in ("top1", "top5", "mean_per_class", "difference")
            for value in (getattr(self, name),)
        }
        per_class = {"recall": self.recall, "gain": self.gain}
        confused = [asdict(one) for one in self.confused]
        return (
            plain
            | {"runs": [run.to_dict() for run in self.runs]}
            | figures
            | per_class
            | {"confused": confused}
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What a descriptor changes on some pictures: their indices (K,), right answers and margins in logits."""

    picture: Indices
    right: Indices  # 1 where it is right by the descriptor alone, -1 where it would be right without it
    margin: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        margin = np.round(self.margin.astype(np.float64), _MARGIN_DIGITS).tolist()
        return {"picture": self.picture.tolist(), "right": self.right.tolist(), "margin": margin}


def _nothing() -> Changes:
    return Changes(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Effect:
    """What leaving one descriptor out changes; positive figures mean that the descriptor helps.

    `effect` is in shares of all pictures answered rightly, `margin` the mean change of its class's pictures'
    lead over the best other class, `others_margin` the same of the other classes' pictures, both in logits.
    """

    name: str  # "class" in plain data
    descriptor: str
    effect: float
    margin: float
    others_margin: float
    pictures: int  # of its class
    on: Changes = field(default_factory=_nothing, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        plain = {name: getattr(self, name) for name in _EFFECT}
        return {"class": self.name} | plain | {"on": self.on.to_dict()}


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A picture worth showing: its true class, what each arm said, and the prediction with its marks."""

    label: str
    by: Mapping[str, str]
    prediction: Prediction

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object, without the thumbnail."""
        return {"label": self.label, "by": dict(self.by)} | self.prediction.to_dict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A whole evaluation; `settings` holds every setting and version that is needed to run it again."""

    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    images: tuple[str, ...]
    labels: Indices  # (N,) class index of each picture
    arms: tuple[ArmResult, ...]
    summary: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    effects: tuple[Effect, ...] = ()
    examples: Sequence[Exemplar] = field(default_factory=tuple)

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of pictures of each class, (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object of the module's docstring."""
        return {
            "v": FORMAT_VERSION,
            "settings": dict(self.settings),
            "summary": list(self.summary),
            "notices": list(self.notices),
            "classes": list(self.classes),
            "images": list(self.images),
            "labels": self.labels.tolist(),
            "failures": [one.to_dict() for one in self.failures],
            "arms": [arm.to_dict() for arm in self.arms],
            "effects": [one.to_dict() for one in self.effects],
            "examples": [one.to_dict() for one in self.examples],
        }
