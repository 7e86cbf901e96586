"""The chart of a classifier's confidence: a reliability diagram and a risk-coverage curve."""

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from fieldmarks.evaluation.estimates import Confidence
from fieldmarks.report.chart_style import (
    BELOW,
    LEAD,
    PLAIN,
    SOFT,
    TOP,
    WIDE,
    Chart,
    axes,
    figure,
)
from fieldmarks.report.numbers import share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME: Final = "confidence"
_SIDE: Final = 320  # pixels of the axes
_LEFT: Final = 60


def chart(confidence: Confidence) -> Chart:
    """Return both plots as one chart."""
    words = (
        f"Left: accuracy by confidence in bins of equally many images; calibration error"
        f" {share(confidence.error.value)}%. Right: error among the surest images by the share that is"
        f" answered, from {share(confidence.risk_at(0.5))}% of half of them to"
        f" {share(confidence.risk[-1])}% of all."
    )
    title = "Confidence beside accuracy, and the error by what is answered"
    return Chart(NAME, title, words, partial(_draw, confidence))


def _draw(confidence: Confidence) -> "Figure":
    whole = figure(TOP + 16 + _SIDE + BELOW)
    first = axes(whole, _LEFT, TOP + 16, _SIDE, _SIDE)
    bins = confidence.bins
    sure = 100 * np.array([part.confidence for part in bins])
    right = 100 * np.array([part.accuracy for part in bins])
    low = min(float(sure.min()), float(right.min()), 90.0)
    low = 10 * np.floor(low / 10)
    first.plot([low, 100], [low, 100], color=SOFT, linewidth=1, linestyle=(0, (1, 2)))
    first.vlines(
        sure, np.minimum(sure, right), np.maximum(sure, right), color=PLAIN, linewidth=1.5, alpha=0.6
    )
    first.plot(sure, right, "o", color=LEAD, markersize=6, clip_on=False)
    first.set_xlim(low, 100)
    first.set_ylim(low, 100)
    first.grid(axis="both")
    first.set_xlabel("Confidence, %")
    first.set_ylabel("Accuracy, %")
    first.annotate(
        "on the line: as sure as right",
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        color=SOFT,
    )

    start = _LEFT + _SIDE + 92
    second = axes(whole, start, TOP + 16, WIDE - start - 24, _SIDE)
    coverage, risk = 100 * np.array(confidence.coverage), 100 * np.array(confidence.risk)
    second.fill_between(coverage, risk, step=None, color=LEAD, alpha=0.12, linewidth=0)
    second.plot(coverage, risk, color=LEAD, linewidth=2, clip_on=False)
    final = float(risk[-1])
    second.axhline(final, color=PLAIN, linewidth=1, linestyle=(0, (1, 2)))
    second.set_xlim(0, 100)
    second.set_ylim(0, max(1.0, 1.08 * float(risk.max())))
    second.grid(axis="y")
    second.set_xlabel("Images answered, the surest first, %")
    second.set_ylabel("Error among these, %")
    second.annotate(
        "dotted: answers in any order",
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        color=SOFT,
    )
    return whole
