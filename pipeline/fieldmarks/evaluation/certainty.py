"""Confidence: whether a classifier knows when it is right, and when an image belongs to none of its classes.

n images, C classes, by the arm of descriptors; of images that repeat another only the first counts.

- Calibration error: in bins of equally many images, the mean distance between confidence, which is the
  largest probability, and accuracy. Chance alone keeps the two apart in every bin, so the plain figure
  (`uncorrected`) is too large. The figure and its interval here are the errors for which the plain one is
  the median, and the ends of the middle 95%, if the bins' distances are as measured but for their size.
- Risk and coverage: the error among the surest images, by how many of all are answered; AURC is its mean.
- Sets of labels: how often they hold the true one, and how many labels they have.
- Rejections: how often the best class's score is under its threshold.
- Backing off: how often a broader class is answered, and how often what is answered is right.
- Unknown images, of none of the classes: the AUROC with which the best class's score, or the largest
  probability, tells them from known ones, with DeLong's interval.

Sources: Naeini et al., Obtaining well calibrated probabilities (2015); Geifman & El-Yaniv, Selective
classification (2017); DeLong et al., Comparing the areas under correlated ROC curves (1988).
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.broader import backed_off
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, Scorer, probabilities
from fieldmarks.evaluation.estimates import (
    BackOff,
    Confidence,
    Estimate,
    LabelSets,
    Rejections,
    ReliabilityBin,
    UnknownImages,
)
from fieldmarks.evaluation.metrics import CONFIDENCE, share
from fieldmarks.evaluation.predictions import CHUNK, chunks

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

BINS: Final = 15
CURVE: Final = 100  # points of the curve of risk and coverage
_RESAMPLES: Final = 1_000
_SEED: Final = 95


@dataclass(frozen=True, slots=True, eq=False)
class Certainty:
    """What a classifier's scores say of n images: the best class, its score, and its probability.

    `rejected` are those under the best class's threshold, `own_rejected` those whose true class is under its
    own; `held` says whether the set of labels holds the true class, `sizes` how many it has. These are None
    where the classifier has no thresholds or no quantile, or the images no true class.
    """

    best: NDArray[np.int64]
    score: Floats
    probability: Floats
    rejected: Truths | None
    own_rejected: Truths | None
    held: Truths | None
    sizes: NDArray[np.int64] | None


def certainty(
    vectors: Array, scorer: Scorer, scale: float, head: Head | None, labels: NDArray[np.integer] | None = None
) -> Certainty:
    """Return what images (n, D) of unit length get, with classes (n,) where they have some."""
    parts = []
    for part in chunks(len(vectors), max(1, CHUNK // scorer.width)):
        true = None if labels is None else labels[part].astype(np.int64)
        parts.append(_certainty(scorer(vectors[part]), scale, head, true))
    joined: dict[str, Any] = {}
    for name in Certainty.__slots__:
        of_parts = [getattr(part, name) for part in parts]
        joined[name] = None if of_parts[0] is None else np.concatenate(of_parts)
    return Certainty(**joined)


def _certainty(scores: Array, scale: float, head: Head | None, true: NDArray[np.int64] | None) -> Certainty:
    rows, best = np.arange(len(scores)), scores.argmax(axis=1)
    shares = probabilities(np.float32(scale) * scores)
    rejected = own = held = sizes = None
    if head is not None and head.thresholds is not None:
        rejected = scores[rows, best] < head.thresholds[best]
        own = None if true is None else scores[rows, true] < head.thresholds[true]
    if head is not None and head.conformal_quantile is not None:
        kept = 1 - shares <= head.conformal_quantile + 1e-7  # as `Head.label_set`
        sizes = kept.sum(axis=1)
        held = None if true is None else kept[rows, true]
    return Certainty(
        best,
        scores[rows, best].astype(np.float64),
        shares[rows, best].astype(np.float64),
        rejected,
        own,
        held,
        sizes,
    )


def is_calibrated(head: Head | None) -> bool:
    """Whether a saved classifier has anything from calibrating."""
    parts = () if head is None else (head.temperature, head.thresholds, head.conformal_quantile)
    return any(part is not None for part in parts)


def confidence(known: Certainty, labels: NDArray[np.integer], head: Head | None) -> Confidence:
    """Return the figures of known images with classes (n,)."""
    right = known.best == labels
    bins = reliability_bins(known.probability, right)
    error, uncorrected = calibration_error(bins)
    coverage, risk = risk_curve(known.probability, right)
    sets = None
    if known.held is not None and known.sizes is not None:
        sets = LabelSets(
            asked=_asked(head, "coverage"),
            coverage=share(known.held[None]),
            size=float(known.sizes.mean()),
            single=float((known.sizes == 1).mean()),
            empty=float((known.sizes == 0).mean()),
        )
    rejections = None
    if known.rejected is not None and known.own_rejected is not None:
        kept = ~known.rejected
        rejections = Rejections(
            asked=_asked(head, "false_rejections"),
            own=share(known.own_rejected[None]),
            all=share(known.rejected[None]),
            answered=share(right[kept][None]) if kept.any() else None,
        )
    return Confidence(
        images=len(right),
        is_calibrated=head is not None and head.temperature is not None,
        error=error,
        uncorrected=uncorrected,
        bins=bins,
        aurc=aurc_interval(known.probability, right),
        best_aurc=aurc(right.astype(np.float64), right),
        coverage=coverage,
        risk=risk,
        sets=sets,
        rejections=rejections,
    )


def back_off(
    vectors: Array, labels: NDArray[np.integer], scorer: Scorer, scale: float, groups: NDArray[np.int64]
) -> BackOff:
    """Return the figures of images (n, D) of unit length with classes (n,), if answers may be broader.

    `groups` (C,) are the numbers of the classes' broader classes.
    """
    broader, right = [], []
    for part in chunks(len(vectors), max(1, CHUNK // scorer.width)):
        shares = probabilities(np.float32(scale) * scorer(vectors[part]))
        answered = backed_off(shares, groups)
        true = labels[part]
        broader.append(answered >= 0)
        right.append(np.where(broader[-1], answered == groups[true], shares.argmax(axis=1) == true))
    is_broader, is_right = np.concatenate(broader), np.concatenate(right)
    of_broader, of_narrow = is_right[is_broader], is_right[~is_broader]
    return BackOff(
        images=len(labels),
        broader=share(is_broader[None]),
        right_broader=share(of_broader[None]) if len(of_broader) else None,
        right_narrow=share(of_narrow[None]) if len(of_narrow) else None,
        right=share(is_right[None]),
    )


def _asked(head: Head | None, name: str) -> float | None:
    """Return the share that a calibration was asked for, where the file says it."""
    try:
        value = json.loads(head.metadata["calibrated"])[name] if head else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, float) and 0 < value < 1 else None


def told_apart(known: Certainty, unknown: Certainty, data: str) -> UnknownImages:
    """Return how well images of none of the classes, from `data`, are told from known ones."""
    return UnknownImages(
        data=data,
        images=len(unknown.best),
        by_score=auroc(known.score, unknown.score),
        by_probability=auroc(known.probability, unknown.probability),
        rejected=None if unknown.rejected is None else share(unknown.rejected[None]),
    )


def reliability_bins(confidences: Floats, right: Truths) -> tuple[ReliabilityBin, ...]:
    """Return bins of equally many images, the least confident first."""
    order = np.argsort(confidences, kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    return tuple(
        ReliabilityBin(len(part), float(confidences[part].mean()), float(right[part].mean()))
        for part in parts
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> tuple[Estimate, float]:
    """Return the calibration error with its interval, and the plain figure. See the module."""
    images, sure, right = (np.array(column, np.float64) for column in zip(*map(_row, bins), strict=True))
    weights = images / images.sum()
    gaps = sure - right
    plain = float(weights @ np.abs(gaps))
    typical = (images * right + sure) / (images + 1)  # a bin all right or all wrong can move too
    spread = np.sqrt(typical * (1 - typical) / images)
    noise = spread * np.random.default_rng(_SEED).standard_normal((4_000, len(bins)))

    def size(quantile: float) -> float:
        """Return the size of the distances, 1 as measured, at which the plain figure is this quantile."""
        low, high = 0.0, 4.0
        for _ in range(30):
            middle = (low + high) / 2
            below = (np.abs(middle * gaps + noise) @ weights < plain).mean()
            low, high = (middle, high) if below > quantile else (low, middle)
        return low

    tail = (1 - CONFIDENCE) / 2
    low, value, high = (plain * size(quantile) for quantile in (1 - tail, 0.5, tail))
    return Estimate(value, min(low, value), min(1.0, max(high, value))), plain


def _row(part: ReliabilityBin) -> tuple[float, float, float]:
    return part.images, part.confidence, part.accuracy


def risk_curve(confidences: Floats, right: Truths) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return at most CURVE coverages, ascending to 1, with the error among so many of the surest images."""
    risks = _risks(confidences, right)
    counts = np.unique(np.linspace(1, len(right), CURVE).round().astype(np.int64))
    return tuple((counts / len(right)).tolist()), tuple(risks[counts - 1].tolist())


def _risks(confidences: Floats, right: Truths) -> Floats:
    """Return the error among the 1, 2 … n surest images; those equally sure come in as their mean."""
    order = np.argsort(-confidences, kind="stable")
    _, first, counts = np.unique(-confidences[order], return_index=True, return_counts=True)
    wrong = np.add.reduceat((~right[order]).astype(np.float64), first) / counts
    risks: Floats = np.cumsum(np.repeat(wrong, counts)) / np.arange(1, len(right) + 1)
    return risks


def aurc(confidences: Floats, right: Truths) -> float:
    """Return the area under the curve of risk and coverage: its mean over all coverages."""
    return float(_risks(confidences, right).mean())


def aurc_interval(confidences: Floats, right: Truths) -> Estimate:
    """Return the area with the interval of resampled images.

    To each resample comes one image, at a random place and wrong in every second, so that images of which
    none is wrong leave the interval open.
    """
    random = np.random.default_rng(_SEED)
    order = np.argsort(-confidences, kind="stable")
    wrong, count = (~right[order]).astype(np.float64), len(right)
    areas = np.empty(_RESAMPLES)
    for row in range(_RESAMPLES):
        weights = np.bincount(random.integers(count, size=count), minlength=count)  # times each is drawn
        mistakes = weights * wrong
        place = random.integers(count)
        weights[place] += 1
        mistakes[place] += row % 2
        risks = np.cumsum(mistakes) / np.maximum(np.cumsum(weights), 1)
        areas[row] = (weights * risks).sum() / (count + 1)
    value, tail = aurc(confidences, right), (1 - CONFIDENCE) / 2
    low, high = np.quantile(areas, [tail, 1 - tail]).tolist()
    return Estimate(value, min(low, value), max(high, value))


def auroc(known: Floats, unknown: Floats) -> Estimate:
    """Return how often a known image scores above an unknown one, ties as half, with DeLong's interval."""
    from scipy import stats  # type: ignore[import-untyped]

    every = stats.rankdata(np.concatenate([known, unknown]))
    of_known = (every[: len(known)] - stats.rankdata(known)) / len(unknown)  # unknown ones under each
    of_unknown = 1 - (every[len(known) :] - stats.rankdata(unknown)) / len(known)  # known ones over each
    value = float(of_known.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (of_known, of_unknown) if len(part) > 1)
    inner = min(max(value, 0.5 / (len(known) * len(unknown))), 1 - 0.5 / (len(known) * len(unknown)))
    slope = inner * (1 - inner)
    # At 0 or 1 DeLong's variance is 0: then one pair the other way, as if half an image were otherwise.
    least = slope * max(1 / len(known), 1 / len(unknown)) / 2
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * np.sqrt(max(variance, least)) / slope
    centre = np.log(inner / (1 - inner))
    low, high = (1 / (1 + np.exp(-(centre + side * reach))) for side in (-1, 1))
    return Estimate(value, min(float(low), value), max(float(high), value))
