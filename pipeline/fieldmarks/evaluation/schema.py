"""The form of a saved evaluation, so that a damaged, edited or foreign file is refused with the place.

The types are the file's (see `results`). What they cannot say, that lists run in step, that indices exist
and that an arm's figures are those of its answers, `check` looks for itself. Other keys are ignored.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import msgspec
import numpy as np

from fieldmarks.evaluation.estimates import BackOff, Confidence

_ROUNDING: Final = 1e-6  # of a share


class _Estimate(msgspec.Struct):
    value: float
    low: float
    high: float


class _Difference(_Estimate):
    to: str
    p: float | None


class _Run(msgspec.Struct):
    seed: int | None
    predicted: list[int]
    rank: list[int]


class _Confusion(msgspec.Struct):
    label: int
    predicted: int
    count: float


class _Arm(msgspec.Struct):
    name: str
    text: str
    aggregate: str
    texts: list[str]
    runs: list[_Run]
    top1: _Estimate
    top5: _Estimate | None
    mean_per_class: _Estimate
    difference: _Difference | None
    recall: list[float | None]
    gain: list[float | None] | None
    confused: list[_Confusion]
    role: str | None = None


class _Changes(msgspec.Struct):
    picture: list[int]
    right: list[int]
    margin: list[float]


class _Effect(msgspec.Struct, rename={"name": "class"}):
    name: str
    descriptor: str
    effect: float
    margin: float
    others_margin: float
    pictures: int
    on: _Changes


class _Score(msgspec.Struct, rename={"name": "class"}):
    name: str
    probability: float
    logit: float


class _Example(msgspec.Struct):
    image: str
    label: str | None
    by: dict[str, str]
    scores: list[_Score]
    true: str | None = None


class _Failure(msgspec.Struct):
    image: str
    error: str


class _Evaluation(msgspec.Struct):
    settings: dict[str, Any]
    summary: list[str]
    notices: list[str]
    classes: list[str]
    images: list[str]
    labels: list[int]
    arms: list[_Arm]
    failures: list[_Failure]
    effects: list[_Effect]
    examples: list[_Example]
    repeats: list[list[int]] = []
    confidence: Confidence | None = None
    back_off: BackOff | None = None
    parents: dict[str, str] = {}


def check(plain: Mapping[str, Any]) -> None:
    """Raise ValueError, which names the place, where a plain object is no evaluation."""
    try:
        evaluation = msgspec.convert(plain, _Evaluation)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    images, classes = len(evaluation.images), len(evaluation.classes)
    if not (images and evaluation.arms):
        raise ValueError("expected at least one image and one arm")
    if len(set(evaluation.classes)) < classes:
        raise ValueError("a class is listed twice")
    if len({arm.name for arm in evaluation.arms}) < len(evaluation.arms):
        raise ValueError("two arms have one name")
    if strange := evaluation.parents.keys() - set(evaluation.classes):
        raise ValueError(f"parents: {sorted(strange)[0]!r:.80} is not a class")
    labels = _indices("labels", evaluation.labels, images, classes)
    for group in evaluation.repeats:
        _indices("repeats", group, len(group), images)
    for arm in evaluation.arms:
        _check_arm(arm, labels, classes)
    for effect in evaluation.effects:
        where, changes = f"the effect of {effect.descriptor!r:.80}", effect.on
        _finite(where, effect.effect, effect.margin, effect.others_margin, *changes.margin)
        _indices(where, changes.picture, len(changes.right), images)
        _step(where, len(changes.margin), len(changes.right))
    for example in evaluation.examples:
        if not example.scores:
            raise ValueError(f"the example {example.image!r:.80} has no scores")
        _finite(f"the example {example.image!r:.80}", *(score.probability for score in example.scores))
    if evaluation.confidence:
        _check_confidence(evaluation.confidence)
    if figures := evaluation.back_off:
        for figure in (figures.broader, figures.right_broader, figures.right_narrow, figures.right):
            if figure:
                _finite("back_off", figure.value, figure.low, figure.high)


def _check_confidence(confidence: Confidence) -> None:
    where = "confidence"
    _step(f"{where}, risk", len(confidence.risk), len(confidence.coverage))
    if not (confidence.coverage and confidence.bins):
        raise ValueError(f"{where}: expected a curve and bins")
    if list(confidence.coverage) != sorted(confidence.coverage) or not 0 < confidence.coverage[-1] <= 1:
        raise ValueError(f"{where}: expected coverages that ascend to 1")
    for part in confidence.bins:
        _finite(where, part.confidence, part.accuracy)
    _finite(where, *confidence.coverage, *confidence.risk, confidence.uncorrected, confidence.best_aurc)
    sets, rejections, unknown = confidence.sets, confidence.rejections, confidence.unknown
    estimates = [confidence.error, confidence.aurc]
    if sets:
        _finite(where, sets.size, sets.single, sets.empty)
        estimates.append(sets.coverage)
    if rejections:
        estimates += [rejections.own, rejections.all]
        estimates += [rejections.answered] if rejections.answered else []
    if unknown:
        estimates += [unknown.by_score, unknown.by_probability]
        estimates += [unknown.rejected] if unknown.rejected else []
    for estimate in estimates:
        _finite(where, estimate.value, estimate.low, estimate.high)


def _check_arm(arm: _Arm, labels: "np.ndarray[Any, Any]", classes: int) -> None:
    where = f"arm {arm.name!r:.80}"
    if not arm.runs:
        raise ValueError(f"{where} has no run")
    right = []
    for run in arm.runs:
        predicted = _indices(f"{where}, predicted", run.predicted, len(labels), classes)
        rank = _indices(f"{where}, rank", run.rank, len(labels), classes)
        right.append(float(np.mean(rank == 0)))
        if not np.array_equal(predicted == labels, rank == 0):
            raise ValueError(f"{where}: predicted and rank do not fit together")
    for figure in (arm.top1, arm.top5, arm.mean_per_class, arm.difference):
        if figure:
            _finite(where, figure.value, figure.low, figure.high)
    if arm.difference and arm.difference.p is not None:
        _finite(where, arm.difference.p)
    if abs(arm.top1.value - float(np.mean(right))) > _ROUNDING:
        raise ValueError(f"{where}: top1 is not the share of its right answers")
    for values in (arm.recall, arm.gain or arm.recall):
        _step(f"{where}, figures of classes", len(values), classes)
        _finite(where, *(value for value in values if value is not None))
    for pair in arm.confused:
        _indices(f"{where}, confused", [pair.label, pair.predicted], 2, classes)
        _finite(where, pair.count)


def _step(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{where}: expected {expected:,} entries, found {found:,}")


def _finite(where: str, *values: float) -> None:
    for value in values:
        if not isfinite(value):
            raise ValueError(f"{where}: expected a number, found {value}")


def _indices(where: str, values: list[int], expected: int, below: int) -> "np.ndarray[Any, Any]":
    _step(where, len(values), expected)
    indices = np.array(values, np.int64)
    if values and not (indices.min() >= 0 and indices.max() < below):
        raise ValueError(f"{where}: expected indices from 0 to {below - 1:,}")
    return indices
