"""Figures with their intervals, and the figures of a classifier's confidence (see `confidence`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much an arm's top-1 leads the baseline's on the same images, and McNemar's p.

    `p` is None where the arm is not a single run. The interval is of the paired difference.
    """

    to: str
    value: float
    low: float
    high: float
    p: float | None


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images of nearly the same confidence, with the mean of it and the share that is right."""

    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class LabelSets:
    """Conformal sets of labels: the share that holds the true one, and how many labels they have.

    `asked` is the coverage that the classifier was calibrated for, `size` the mean number of labels, `single`
    and `empty` are the shares of sets of one label and of none.
    """

    asked: float | None
    coverage: Estimate
    size: float
    single: float
    empty: float


@dataclass(frozen=True, slots=True)
class Rejections:
    """Known images that are answered with "none of these".

    `asked` is the share that may be, `own` the share of images whose true class's score is under its
    threshold, which is what was asked for; `all` is the share whose best class's is, and `answered` the
    accuracy on the others, None where there are none.
    """

    asked: float | None
    own: Estimate
    all: Estimate
    answered: Estimate | None


@dataclass(frozen=True, slots=True)
class BackOff:
    """Images that `classify --back-off` answers with a broader class, of the `images` that repeat no other.

    `broader` is their share, `right_broader` the share of them whose broader class is the true one's, and
    `right_narrow` the accuracy on the others, None where there are none. `right` is the share of all images
    for which what is answered is right, be it a class or a broader one.
    """

    images: int
    broader: Estimate
    right_broader: Estimate | None
    right_narrow: Estimate | None
    right: Estimate

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "BackOff":
        """Return the figures of a plain object. Raises ValueError."""
        return msgspec.convert(plain, cls)


@dataclass(frozen=True, slots=True)
class UnknownImages:
    """Images of none of the classes: the AUROCs that tell them from known ones, and the share rejected."""

    data: str
    images: int
    by_score: Estimate
    by_probability: Estimate
    rejected: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Whether an arm knows when it is right; all shares are of the `images` that repeat no other one.

    `coverage` and `risk` run in step: the share of images that are answered, the surest first, and the error
    among these. `best_aurc` is the AURC if all right answers were surer than all wrong ones.
    """

    images: int
    is_calibrated: bool
    error: Estimate
    uncorrected: float
    bins: tuple[ReliabilityBin, ...]
    aurc: Estimate
    best_aurc: float
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    sets: LabelSets | None = None
    rejections: Rejections | None = None
    unknown: UnknownImages | None = None

    def risk_at(self, coverage: float) -> float:
        """Return the error among a share of the images, the surest ones."""
        place = next(at for at, value in enumerate(self.coverage) if value >= coverage - 1e-9)
        return self.risk[place]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        plain = asdict(self)
        return plain | {name: list(plain[name]) for name in ("bins", "coverage", "risk")}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Confidence":
        """Return the figures of a plain object. Raises ValueError."""
        return msgspec.convert(plain, cls)
