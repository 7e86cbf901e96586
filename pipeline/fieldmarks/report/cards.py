"""A card for one image, on pages of results and evaluations: its classes, its marks, and what decided."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageOps

from fieldmarks.classification.results import Explanation, Mark, Prediction, Score
from fieldmarks.report.document import data_uri
from fieldmarks.report.numbers import MINUS, signed

CLASSES_SHOWN: Final = 5  # of each image


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar on a line of 100 units; `zero` is where zero is, None if it is at the left end."""

    start: float
    length: float
    zero: float | None = None


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A mark with its number as printed and its bar; a class's offset has neither descriptor nor bar.

    `source` is the class that the descriptor comes from, if it is a different one.
    """

    descriptor: str
    number: str
    bar: Bar | None
    source: str | None = None


def card(prediction: Prediction, image: str | None = None) -> dict[str, Any]:
    """Return the template's values for a prediction; `image` is a URI to show instead of the thumbnail."""
    thumbnail = data_uri("image/jpeg", prediction.thumbnail) if prediction.thumbnail else None
    scores = [*([prediction.parent] if prediction.parent else []), *prediction.scores]
    return {
        "name": Path(prediction.image).name or prediction.image,
        "path": prediction.image,
        "thumbnail": image or thumbnail,
        "label": prediction.shown_label,
        "abstained": prediction.label is None,
        "scores": [(score, Bar(0, 100 * score.probability)) for score in scores[:CLASSES_SHOWN]],
        "baseline": prediction.baseline,
        "agrees": agrees(prediction),
        "reason": prediction.reason,
        "weighted": weighted([prediction]),
        "labels": prediction.labels,
        "sides": _sides(prediction.scores, prediction.explanation) if prediction.explanation else [],
        "decided": _decided(prediction.explanation) if prediction.explanation else [],
    }


def small_copy(thumbnail: bytes | None, side: int, *, square: bool = False) -> str | None:
    """Return a data URI of a smaller copy of a thumbnail, or None without one."""
    if thumbnail is None:
        return None
    with Image.open(io.BytesIO(thumbnail)) as image:
        image.draft("RGB", (side, side))
        if square:
            small = ImageOps.fit(image, (side, side))
        else:
            small = image.copy()
            small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=50 if square else 65)
    return data_uri("image/webp", file.getvalue())


def agrees(prediction: Prediction) -> bool:
    """Whether the class names alone predict the same class."""
    return prediction.baseline is not None and prediction.baseline.name == prediction.scores[0].name


def weighted(predictions: Sequence[Prediction]) -> bool:
    """Whether the marks have learned weights."""
    return any(entry.explanation.offsets for entry in predictions if entry.explanation)


def relative(predictions: Sequence[Prediction]) -> bool:
    """Whether the marks are z-scores over the run's images."""
    explained = (entry.explanation.predicted for entry in predictions if entry.explanation)
    return any(marks and marks[0].z is not None for marks in explained)


def _sides(scores: Sequence[Score], explanation: Explanation) -> list[tuple[str, list[MarkRow]]]:
    """Return the marks of the predicted class and of the runner-up, with bars on one scale."""
    marks = (*explanation.predicted, *explanation.runner_up)
    sides = zip(scores, (explanation.predicted, explanation.runner_up), strict=False)
    offsets = [*explanation.offsets, None, None]
    return [
        (
            score.name,
            [MarkRow(mark.descriptor, number(mark), bar(mark, marks), mark.source) for mark in side]
            + ([] if offset is None else [MarkRow("", signed(offset, 1), None)]),
        )
        for (score, side), offset in zip(sides, offsets, strict=False)
    ]


def _decided(explanation: Explanation) -> list[tuple[str, str]]:
    return [(mark.descriptor, number(mark)) for mark in explanation.decided or ()]


def bar(mark: Mark, marks: Sequence[Mark]) -> Bar:
    """Return a mark's bar from zero, on one scale for `marks`; negative ones go to the left."""
    strengths = [other.strength for other in marks]
    return bar_from_zero(mark.strength, min(strengths), max(strengths))


def bar_from_zero(value: float, low: float, high: float) -> Bar:
    """Return a bar from zero to `value`, on a line that covers zero and `low` to `high`."""
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    zero, length = 100 * -low / span, 100 * abs(value) / span
    return Bar(zero if value >= 0 else zero - length, length, zero if low < 0 else None)


def number(mark: Mark) -> str:
    """Return a mark's number as printed: its signed z-score, or else its raw score.

    With a learned weight, it is the mark's contribution to the class's logit, followed by the weight.
    """
    if mark.z is not None:
        return f"{mark.z:+z.2f}".replace("-", MINUS)
    value = mark.logit if mark.contribution is None else mark.contribution
    weight = "" if mark.weight is None else f" ×{mark.weight:z.1f}"
    return f"{value:z.1f}{weight}".replace("-", MINUS)
