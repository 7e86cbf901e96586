"""The chart of learning curves, with its text alternative: accuracy by shots, bands for intervals."""

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from fieldmarks.learning.curves import LearningCurves
from fieldmarks.report.chart_style import (
    BELOW,
    INK,
    LEAD,
    LINE,
    PLAIN,
    SECOND,
    SOFT,
    WIDE,
    Chart,
    axes,
    figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME: Final = "learning-curves"
_HEIGHT: Final = 420  # pixels of the axes
_LEFT: Final = 56
_LABELS: Final = 130  # pixels to the right of the axes, for the curves' names
_LINE: Final = 18  # pixels between two names
_STYLES: Final = {  # colour and dashes
    "zero-shot": (INK, (0, (1, 2))),
    "learned": (LEAD, "solid"),
    "shared": (LEAD, (0, (5, 2))),
    "names": (PLAIN, "solid"),
    "random words": (PLAIN, (0, (5, 2))),
    "random, shared": (PLAIN, (0, (1, 2))),
    "image means": (SECOND, "solid"),
}


def chart(curves: LearningCurves) -> Chart:
    """Return the learning curves as a chart."""
    last = ", ".join(f"{curve.name} {100 * curve.mean[-1]:.1f}%" for curve in curves.curves)
    words = (
        f"Accuracy by labelled images per class, means of {curves.draws} draws with 95% intervals, on"
        f" {curves.tested:,} images that were not learned from. At {curves.shots[-1]:,}: {last}."
    )
    return Chart(NAME, "Learning curves", words, partial(_draw, curves))


def spread(places: list[float], least: float, low: float, high: float) -> list[float]:
    """Return places moved to be at least `least` apart and within bounds, in the same order."""

    def first(group: list[float]) -> float:
        return float(np.clip(group[0] / group[1] - _half(group), low, high - 2 * _half(group)))

    def _half(group: list[float]) -> float:
        return least * (group[1] - 1) / 2

    order = np.argsort(places, kind="stable")
    moved = np.array(places, float)[order]
    groups: list[list[float]] = []  # each with its sum and count; a group's places are evenly spaced
    for place in moved.tolist():
        groups.append([place, 1])
        while len(groups) > 1 and first(groups[-1]) - first(groups[-2]) < least * groups[-2][1]:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    rows = [first(group) + at * least for group in groups for at in range(int(group[1]))]
    result = np.empty(len(places))
    result[order] = rows
    found: list[float] = result.tolist()
    return found


def _draw(curves: LearningCurves) -> "Figure":
    empty = figure(28 + _HEIGHT + BELOW)
    width = WIDE - _LEFT - _LABELS
    plot = axes(empty, _LEFT, 28, width, _HEIGHT)
    at = np.log2(np.array(curves.shots, float))
    room = 0.0 if len(at) > 1 else 0.5
    low = 100 * min(float(curve.low.min()) for curve in curves.curves)
    high = 100 * max(float(curve.high.max()) for curve in curves.curves)
    pad = max(1.0, 0.04 * (high - low))
    plot.set_ylim(low - pad, high + pad)
    plot.set_xlim(at[0] - room, at[-1] + room)
    plot.grid(axis="y")
    ends = [100 * float(curve.mean[-1]) for curve in curves.curves]
    unit = (high - low + 2 * pad) / _HEIGHT  # points of accuracy per pixel
    inside = _LINE / 2 * unit  # half a name's height
    places = spread(ends, _LINE * unit, low - pad + inside, high + pad - inside)
    for curve, end, place in zip(curves.curves, ends, places, strict=True):
        colour, dashes = _STYLES.get(curve.name, (PLAIN, "solid"))
        mean = 100 * curve.mean
        plot.fill_between(at, 100 * curve.low, 100 * curve.high, color=colour, alpha=0.12, linewidth=0)
        plot.plot(
            at, mean, color=colour, linestyle=dashes, linewidth=2, marker="o", markersize=4, clip_on=False
        )
        plot.annotate(
            curve.name,
            (at[-1], end),
            xytext=(at[-1] + room + (at[-1] - at[0] + 2 * room) * 18 / width, place),
            textcoords="data",
            va="center",
            color=SOFT if colour == PLAIN else colour,
            annotation_clip=False,
            arrowprops={
                **{"arrowstyle": "-", "color": LINE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4},
                "relpos": (0, 0.5),  # from the name's beginning, so that no line crosses another name
            },
        )
    plot.set_xticks(at, [f"{shots:,}" for shots in curves.shots])
    plot.set_xlabel("labelled images per class (shots)")
    plot.annotate(
        f"accuracy in %, mean of {curves.draws} draws with 95% interval",
        (0, 1),
        (-_LEFT + 8, 12),
        xycoords="axes fraction",
        textcoords="offset points",
        color=SOFT,
    )
    return empty
