"""The charts of an evaluation. Each is drawn for a page's column and for a phone, and told in words."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.evaluation.results import ArmResult, Difference, Estimate, Evaluation
from fieldmarks.evaluation.summary import is_described
from fieldmarks.report import matrices, roles
from fieldmarks.report.drawing import (
    INK,
    LEAD,
    LONGEST,
    PLAIN,
    SECOND,
    SOFT,
    WIDE,
    Chart,
    axes,
    figure,
    gutter,
    heading,
    label,
)
from fieldmarks.report.numbers import MINUS, amount, points, share
from fieldmarks.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES: Final = ("arms", "gains", "gains-distribution", "confusion", "confusion-block", "classes")
ENDS: Final = 15  # of more, the best and the worst
ROW: Final = 22  # pixels
STEPS: Final = 41  # bars of a distribution

Array = NDArray[np.float64]


def charts(evaluation: Evaluation) -> list[Chart]:
    """Return the charts that an evaluation gives cause for, in the order of the page."""
    subject = roles.subject(evaluation)
    gained = gains(evaluation, subject)
    return [arms(evaluation), *gained, *matrices.charts(evaluation), distribution(evaluation)]


def arms(evaluation: Evaluation) -> Chart:
    """Return the arms with their intervals, and beside them their lead over the arm compared with."""
    words = "; ".join(
        f"{printable(arm.name)} {share(arm.top1.value)} ({share(arm.top1.low)} to {share(arm.top1.high)})"
        for arm in evaluation.arms
    )
    words = f"Top-1 in percent, with 95 % intervals: {words}"
    return Chart("arms", "The arms, with 95 % intervals", words, partial(_draw_arms, evaluation))


def _draw_arms(evaluation: Evaluation, width: int) -> "Figure":
    names = [_in_lines(arm.name, LONGEST[width]) for arm in evaluation.arms]
    left, high = gutter("\n".join(names).split("\n")), 34 * len(names)
    compared = [arm.difference for arm in evaluation.arms]
    beside, two = width == WIDE, any(compared)
    plot = (width - left - 24) * (0.54 if beside and two else 1)
    made = figure(width, 34 + high + 30 + (high + 64 if two and not beside else 0))
    first = axes(made, left, 34, plot, high)
    _rows(first, names)
    heading(first, "Top-1 (dot) and mean per class (diamond), %", left - 8)
    for row, arm in enumerate(evaluation.arms):
        _estimates(first, row, arm, evaluation)
    if two:
        start, top = (left + plot + 32, 34) if beside else (left, high + 98)
        second = axes(made, start, top, width - start - 24, high)
        _rows(second, [] if beside else names)
        _differences(second, evaluation, len(names))
        over = label(next(one.to for one in compared if one), 16)
        heading(second, f"Top-1 over “{over}”, percentage points", 0 if beside else left - 8)
    return made


def _in_lines(name: str, columns: int) -> str:
    """Return an arm's name in two lines where it does not fit: what arms differ in stands at the end."""
    first, _, rest = name.partition(" ")
    if not rest or label(name, columns) == name:
        return label(name, columns)
    return f"{label(first, columns)}\n{label(rest, columns + 6)}"


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    """Set up a row for each name, the first on top, and a light grid for the values."""
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="x")
    axes.margins(x=0.06)


def _colour(arm: ArmResult) -> str:
    return LEAD if is_described(arm.name) else PLAIN if roles.is_control(arm) else INK


def _estimates(axes: "Axes", row: int, arm: ArmResult, evaluation: Evaluation) -> None:
    """Draw an arm's figures, and a tick for what each seed of a random one reaches."""
    axes.set_ylim(len(evaluation.arms) - 0.5, -0.5)
    _interval(axes, row - 0.12, arm.top1, _colour(arm), "o", hollow=roles.is_control(arm))
    _interval(axes, row + 0.2, arm.mean_per_class, _colour(arm), "d", hollow=True)
    if len(arm.runs) > 1:
        each = [100 * float(np.mean(run.predicted == evaluation.labels)) for run in arm.runs]
        axes.plot(each, [row - 0.36] * len(each), "|", color=PLAIN, markersize=5, alpha=0.7)


def _interval(
    axes: "Axes", row: float, one: Estimate | Difference, colour: str, marker: str, *, hollow: bool
) -> None:
    size, line = (8, 2.0) if marker == "o" else (5, 1.0)
    axes.plot([100 * one.low, 100 * one.high], [row, row], color=colour, linewidth=line)
    fill = "#ffffff" if hollow else colour
    axes.plot([100 * one.value], [row], marker, color=colour, markerfacecolor=fill, markersize=size)


def _differences(axes: "Axes", evaluation: Evaluation, rows: int) -> None:
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axvline(0, color=SOFT, linewidth=1)
    for row, arm in enumerate(evaluation.arms):
        if arm.difference:
            hollow = roles.is_control(arm)
            _interval(axes, row, arm.difference, _colour(arm), "o", hollow=hollow)
    axes.xaxis.set_major_formatter(_tick)


def _tick(value: float, _: float) -> str:
    """Return a difference as it stands at an axis, with all the digits that it has; nothing beyond 100."""
    if abs(value) > 100:
        return ""
    return f"{value:+g}".replace("-", MINUS) if value else "0"


def ranked_gains(evaluation: Evaluation, arm: ArmResult) -> list[tuple[float, int]]:
    """Return each gain with its class, best first; of equal ones those of more pictures are further out."""
    counts = evaluation.counts
    known = [(gain, number) for number, gain in enumerate(arm.gain or ()) if gain is not None]
    return sorted(known, key=lambda one: (-one[0], counts[one[1]] * (-1 if one[0] >= 0 else 1)))


def gains(evaluation: Evaluation, arm: ArmResult) -> list[Chart]:
    """Return each class's gain, best first; of many classes the two ends, and how all are distributed."""
    ranked = [(gain, evaluation.classes[number]) for gain, number in ranked_gains(evaluation, arm)]
    if not ranked:
        return []
    many = len(ranked) > matrices.NAMED
    shown = [*ranked[:ENDS], None, *ranked[-ENDS:]] if many else list(ranked)
    (best, first), (worst, last) = ranked[0], ranked[-1]
    words = (
        f"Gain of each class in percentage points, from {printable(first)} {points(best)}"
        f" to {printable(last)} {points(worst)}"
    )
    title = f"The {ENDS} best and the {ENDS} worst classes" if many else "The gain of each class"
    found = [Chart("gains", title, words, partial(_draw_gains, shown))]
    if many:
        values = np.array([gain for gain, _ in ranked])
        told = f"{np.sum(values > 0)} classes gain, {np.sum(values < 0)} lose"
        draw = partial(_draw_gain_distribution, values)
        found.append(Chart("gains-distribution", "How the gains are distributed", told, draw))
    return found


def _draw_gains(shown: Sequence[tuple[float, str] | None], width: int) -> "Figure":
    names = [label(one[1], LONGEST[width]) if one else "⋮" for one in shown]
    values = [100 * one[0] if one else 0.0 for one in shown]
    made, drawn = _bars(names, values, width, "Gain, percentage points")
    reach = max(map(abs, values)) or 1.0
    room = reach * (0.18 if width == WIDE else 0.7)  # for the figures
    low, high = min(*values, 0), max(*values, 0)
    drawn.set_xlim(low - room if low < 0 or low == high else 0, high + room)
    drawn.axvline(0, color=SOFT, linewidth=1)
    drawn.locator_params(axis="x", nbins=8 if width == WIDE else 4)
    drawn.xaxis.set_major_formatter(_tick)
    for row, one in enumerate(shown):
        if one:
            _figure(drawn, row, 100 * one[0], points(one[0]))
    return made


def _bars(names: Sequence[str], values: Sequence[float], width: int, title: str) -> "tuple[Figure, Axes]":
    """Draw horizontal bars from zero, the first on top; what is below zero in another colour."""
    left, high = gutter(names), ROW * len(names)
    made = figure(width, 34 + high + 30)
    drawn = axes(made, left, 34, width - left - 16, high)
    _rows(drawn, names)
    colours = [LEAD if value > 0 else SECOND for value in values]
    drawn.barh(range(len(names)), values, height=0.62, color=colours)
    drawn.set_ylim(len(names) - 0.5, -0.5)
    heading(drawn, title, left - 8)
    return made, drawn


def _figure(axes: "Axes", row: int, value: float, text: str) -> None:
    """Write a figure at the end of its bar."""
    side, place = (5, "left") if value >= 0 else (-5, "right")
    axes.annotate(
        text, (value, row), (side, 0), textcoords="offset points", ha=place, va="center_baseline", color=SOFT
    )


def _draw_gain_distribution(values: Array, width: int) -> "Figure":
    reach = 100 * float(np.abs(values).max()) or 1.0
    heights, edges = np.histogram(100 * values, STEPS, (-reach, reach))
    middles = (edges[:-1] + edges[1:]) / 2
    colours = [PLAIN if at == STEPS // 2 else LEAD if at > STEPS // 2 else SECOND for at in range(STEPS)]
    made, drawn = _frame(width, "Classes, by their gain in percentage points")
    drawn.bar(middles, heights, width=0.86 * (edges[1] - edges[0]), color=colours)
    drawn.xaxis.set_major_formatter(_tick)
    return made


def _frame(width: int, title: str) -> "tuple[Figure, Axes]":
    """Return axes for a distribution: numbers of things upwards."""
    made = figure(width, 240)
    drawn = axes(made, 52, 34, width - 80, 172)
    drawn.grid(axis="y")
    drawn.tick_params(axis="y", labelcolor=SOFT)
    drawn.yaxis.set_major_formatter(lambda value, _: amount(value))
    drawn.locator_params(axis="y", nbins=4, integer=True)
    heading(drawn, title, 44)
    return made, drawn


def distribution(evaluation: Evaluation) -> Chart:
    """Return how many pictures each class has."""
    counts = evaluation.counts
    words = f"Pictures of each class: from {counts.min()} to {counts.max()}, median {np.median(counts):g}"
    return Chart("classes", "Pictures of each class", words, partial(_draw_distribution, evaluation))


def _draw_distribution(evaluation: Evaluation, width: int) -> "Figure":
    counts = evaluation.counts
    ranked = np.argsort(-counts, kind="stable")
    if len(ranked) > matrices.NAMED:
        return _draw_curve(counts[ranked], width)
    names = [label(evaluation.classes[one], LONGEST[width]) for one in ranked]
    made, drawn = _bars(names, counts[ranked].tolist(), width, "Pictures")
    for patch in drawn.patches:
        patch.set_facecolor(PLAIN)
    drawn.set_xlim(0, 1.1 * max(int(counts.max()), 1))
    drawn.locator_params(axis="x", integer=True)
    for row, one in enumerate(ranked):
        _figure(drawn, row, counts[one], amount(counts[one]))
    return made


def _draw_curve(counts: NDArray[np.int64], width: int) -> "Figure":
    """Draw the classes' sizes, largest first, of very many a part at even distances."""
    made, drawn = _frame(width, "Pictures of each class, classes with most first")
    at = np.unique(np.linspace(0, len(counts) - 1, 500).astype(int))
    drawn.fill_between(at + 1, counts[at], step="mid", color=PLAIN, linewidth=0)
    drawn.set_xlim(1, len(counts))
    drawn.set_ylim(0, 1.1 * counts.max())
    drawn.xaxis.set_major_formatter(lambda value, _: amount(value))
    return made
