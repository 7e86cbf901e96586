"""Pictures as cards: what the template shows of a prediction, its marks with bars on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.results import Explanation, Mark, Prediction, Score
from fieldmarks.report.document import data_uri
from fieldmarks.report.numbers import MINUS

CLASSES_SHOWN: Final = 5  # of each picture


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar on a line of 100 units."""

    start: float
    length: float


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A mark with its number as printed and its bar."""

    descriptor: str
    number: str
    bar: Bar


def card(one: Prediction) -> dict[str, Any]:
    """Return what the template shows of a prediction."""
    return {
        "name": Path(one.image).name or one.image,
        "path": one.image,
        "thumbnail": data_uri("image/jpeg", one.thumbnail) if one.thumbnail else None,
        "label": one.label,
        "scores": [(score, Bar(0, 100 * score.probability)) for score in one.scores[:CLASSES_SHOWN]],
        "baseline": one.baseline,
        "agrees": one.baseline is not None and one.baseline.name == one.scores[0].name,
        "sides": _sides(one.scores, one.explanation) if one.explanation else [],
        "decided": _decided(one.explanation) if one.explanation else [],
    }


def relative(predictions: Sequence[Prediction]) -> bool:
    """Tell whether the marks are given in deviations from the run's other pictures."""
    explained = (one.explanation.predicted for one in predictions if one.explanation)
    return any(marks and marks[0].z is not None for marks in explained)


def _sides(scores: Sequence[Score], explanation: Explanation) -> list[tuple[str, list[MarkRow]]]:
    """Return the marks of the predicted class and of the runner-up, on one scale of bars."""
    marks = (*explanation.predicted, *explanation.runner_up)
    sides = zip(scores, (explanation.predicted, explanation.runner_up), strict=False)
    return [
        (score.name, [MarkRow(mark.descriptor, number(mark), bar(mark, marks)) for mark in side])
        for score, side in sides
    ]


def _decided(explanation: Explanation) -> list[tuple[str, str]]:
    return [(mark.descriptor, number(mark)) for mark in explanation.decided or ()]


def bar(mark: Mark, marks: Sequence[Mark]) -> Bar:
    """Return a mark's bar: from zero in the middle for z, else from a little under the lowest mark."""
    if mark.z is not None:
        return signed_bar(mark.z, max(abs(one.z or 0.0) for one in marks))
    low, high = min(one.logit for one in marks), max(one.logit for one in marks)
    return Bar(0, 8 + 92 * (mark.logit - low) / (high - low) if high > low else 100)


def signed_bar(value: float, reach: float) -> Bar:
    """Return a bar from the middle of the line, whose halves are as long as `reach`."""
    length = 50 * abs(value) / (reach or 1.0)
    return Bar(50.0 if value >= 0 else 50 - length, length)


def number(mark: Mark) -> str:
    """Return a mark's number as printed: signed deviations, or the raw score."""
    return (f"{mark.logit:.1f}" if mark.z is None else f"{mark.z:+.2f}").replace("-", MINUS)
