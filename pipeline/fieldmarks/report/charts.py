"""The charts of an evaluation, each with its text alternative: arms, gains, confusion, images per class.

Confusion is shown by name for few classes; for many, pooled into bins and ordered so that groups of confused
classes stand out, with the worst block by name. Rows are true classes and columns predicted ones throughout;
entries are numbers of images, averaged over an arm's runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.evaluation.results import ArmResult, Evaluation, Indices
from fieldmarks.report import confidence_charts
from fieldmarks.report.chart_style import (
    BELOW,
    INK,
    LEAD,
    LINE,
    LONGEST,
    MISTAKE,
    PLAIN,
    SECOND,
    SOFT,
    TOP,
    WIDE,
    Chart,
    axes,
    figure,
    gutter,
    heading,
    interval,
    label,
    mixed,
    name_rows,
    needed,
    signed_tick,
)
from fieldmarks.report.numbers import amount, points, share
from fieldmarks.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST: Final = 2_000  # classes that are ordered; with more, those with the most mistakes

Matrix = NDArray[np.float64]
Chosen = NDArray[np.int64]


def matrix(arm: ArmResult, labels: Indices, chosen: Chosen, classes: int) -> Matrix:
    """Return the confusion matrix (K, K) of the chosen classes; predictions outside them are left out."""
    place = np.full(classes, -1)
    place[chosen] = np.arange(len(chosen))
    rows, total = place[labels], np.zeros(len(chosen) ** 2)
    for run in arm.runs:
        columns = place[run.predicted]
        among = (rows >= 0) & (columns >= 0)
        total += np.bincount(rows[among] * len(chosen) + columns[among], minlength=total.size)
    return (total / len(arm.runs)).reshape(len(chosen), len(chosen))


def most_mistaken(arm: ArmResult, labels: Indices, classes: int) -> Chosen:
    """Return at most MOST classes, in their order: those that lose or attract the most images."""
    mistakes = np.zeros(classes)
    for run in arm.runs:
        wrong = run.predicted != labels
        for side in (labels, run.predicted):
            mistakes += np.bincount(side[wrong], minlength=classes)
    return np.sort(np.argsort(-mistakes, kind="stable")[:MOST])


def shares(confusion: Matrix, images: NDArray[np.int64]) -> Matrix:
    """Return each row as shares of its class's images; rows without images are zero."""
    return confusion / np.maximum(images, 1)[:, None]


def cluster(share: Matrix) -> Matrix:
    """Return scipy's linkage matrix (K - 1, 4), which joins classes that are confused with each other.

    The distance is 1 minus the mean of the two shares; average linkage. Raises ReportError without scipy.
    """
    alike = np.clip((share + share.T) / 2, 0.0, 1.0)
    rows, columns = np.triu_indices(len(alike), 1)
    tree: Matrix = needed("scipy.cluster.hierarchy").linkage(1.0 - alike[rows, columns], "average")
    return tree


def order(tree: Matrix) -> Chosen:
    """Return the classes in the order of a tree's leaves, so that confused ones are neighbours."""
    leaves: Any = needed("scipy.cluster.hierarchy").leaves_list(tree)
    return np.asarray(leaves, np.int64)


def worst_block(tree: Matrix, confusion: Matrix, size: int) -> Chosen:
    """Return the branch of at most `size` classes, in the tree's order, with the most mistakes among them."""
    branches: list[list[int]] = [[number] for number in range(len(confusion))]
    best, most = branches[0], -1.0
    for left, right, _, leaves in tree.tolist():
        branch = [*branches[int(left)], *branches[int(right)]] if leaves <= size else []
        branches.append(branch)  # a branch too large is never part of a small one
        inside = confusion[np.ix_(branch, branch)]
        mistakes = float(inside.sum() - np.trace(inside))
        if mistakes > most:
            best, most = branch, mistakes
    return np.array(best, np.int64)


def edges(classes: int, bins: int) -> Chosen:
    """Return where at most `bins` runs of neighbouring classes begin; their lengths differ by at most one."""
    return np.unique(np.linspace(0, classes, min(bins, classes) + 1).astype(np.int64))[:-1]


def pooled(confusion: Matrix, starts: Chosen) -> Matrix:
    """Return the sums over runs of neighbouring rows and columns."""
    return np.add.reduceat(np.add.reduceat(confusion, starts, 0), starts, 1)


def without_diagonal(confusion: Matrix) -> Matrix:
    """Return only the mistakes."""
    return confusion * (1 - np.eye(len(confusion)))


NAMED: Final = 30  # classes whose matrix is shown whole
BLOCK: Final = 12  # classes of the worst block, and of two matrices side by side
BINS: Final = 200  # rows of an overview
TITLE: Final = 20  # pixels of an axis title
LINE_HEIGHT: Final = 15  # pixels that a name needs
DARKEST: Final = 0.5  # the share of mistakes that has the full colour


@dataclass(frozen=True, slots=True)
class Panel:
    """A matrix of shares with its arm's name."""

    title: str
    share: Matrix


def confusion_charts(evaluation: Evaluation) -> list[Chart]:
    """Return the confusion of the evaluated arm, with the baseline's next to it if both fit."""
    subject, baseline = evaluation.arm, evaluation.baseline
    classes = len(evaluation.classes)
    chosen = most_mistaken(subject, evaluation.labels, classes)
    if len(chosen) < 2:
        return []
    pair = [baseline, subject] if baseline else [subject]
    shares = [_share(evaluation, arm, chosen) for arm in pair]
    tree = cluster(np.mean(shares, axis=0))  # of both, so that neither is favoured
    ordered = chosen[order(tree)]
    if classes <= NAMED:
        shown = pair if classes <= BLOCK else [subject]
        return [_named("confusion", "Confusion", evaluation, shown, ordered)]
    block = chosen[worst_block(tree, shares[-1] * evaluation.counts[chosen, None], BLOCK)]
    overview = _overview(evaluation, pair, ordered, block)
    return [
        overview,
        _named("confusion-block", "The most confused classes", evaluation, pair, block),
    ]


def _share(evaluation: Evaluation, arm: ArmResult, chosen: Chosen) -> Matrix:
    images = matrix(arm, evaluation.labels, chosen, len(evaluation.classes))
    return shares(images, evaluation.counts[chosen])


def _named(
    name: str, title: str, evaluation: Evaluation, shown: Sequence[ArmResult], chosen: Chosen
) -> Chart:
    names = [evaluation.classes[number] for number in chosen]
    panels = [Panel(arm.name, _share(evaluation, arm, chosen)) for arm in shown]
    listed = ", ".join(map(printable, names))
    words = f"Confusion matrix of {listed}; the pairs most confused are in the table below"
    return Chart(name, title, words, partial(_draw_named, names, panels))


def _draw_named(names: Sequence[str], panels: Sequence[Panel]) -> "Figure":
    short = [label(name, LONGEST - (3 if len(panels) > 1 else 0)) for name in names]
    left = gutter(short) + TITLE
    side = min((WIDE - left - 8 - 28 * (len(panels) - 1)) / len(panels), 46 * len(names))
    tall = max(side, LINE_HEIGHT * len(names))
    below = left - TITLE if side >= LINE_HEIGHT * len(names) else 0  # else only the rows are labelled
    whole = figure(34 + tall + below + TITLE + 12)
    step = max(side + 28, (WIDE - left) / len(panels))  # small ones have gaps, as their titles are wider
    for column, panel in enumerate(panels):
        drawn = axes(whole, left + column * step, 34, side, tall)
        heading(drawn, f"“{label(panel.title, 20)}”, % of the true class’s images")
        drawn.set_xlabel("Predicted class")
        drawn.set_ylabel("True class" if column == 0 else "")
        _cells(drawn, panel.share, side / len(names))
        drawn.set_xticks(range(len(names)) if below else [], short if below else [], rotation=90, color=INK)
        drawn.set_yticks(range(len(names)), short if column == 0 else [""] * len(names))
    return whole


def _cells(drawn: "Axes", share: Matrix, size: float) -> None:
    """Draw correct predictions in one colour and mistakes in another, with figures if cells have room."""
    right = np.eye(len(share), dtype=bool)
    colours = np.where(right[..., None], mixed(LEAD, share), mixed(MISTAKE, share / DARKEST))
    edges = np.arange(len(share) + 1) - 0.5
    drawn.pcolormesh(edges, edges, colours, edgecolors=LINE, linewidth=0.5)
    drawn.set_ylim(len(share) - 0.5, -0.5)
    if size < 18:
        return
    for row, column in np.argwhere(share >= 0.005):
        dark = share[row, column] > (0.5 if row == column else 0.6 * DARKEST)
        text = f"{100 * share[row, column]:.0f}"
        colour, letters = "#ffffff" if dark else INK, min(12.0, 0.42 * size)
        drawn.text(column, row, text, color=colour, fontsize=letters, ha="center", va="center_baseline")


def _overview(evaluation: Evaluation, shown: Sequence[ArmResult], ordered: Chosen, block: Chosen) -> Chart:
    starts = edges(len(ordered), BINS)
    images = np.add.reduceat(evaluation.counts[ordered], starts)
    panels = []
    for arm in shown:
        every = matrix(arm, evaluation.labels, ordered, len(evaluation.classes))
        mistakes = pooled(without_diagonal(every), starts)
        panels.append(Panel(arm.name, shares(mistakes, images)))
    place = np.flatnonzero(np.isin(ordered, block))
    where = (float(place.min()) / len(ordered), float(place.max() + 1) / len(ordered))
    words = f"The mistakes among {len(ordered)} classes, those confused with each other beside each other"
    all_of_them = len(ordered) == len(evaluation.classes)
    title = "All mistakes" if all_of_them else f"The {len(ordered):,} classes with the most mistakes"
    return Chart("confusion", title, words, partial(_draw_overview, panels, where))


def _draw_overview(panels: Sequence[Panel], where: tuple[float, float]) -> "Figure":
    side = min((WIDE - 26 - 24 * (len(panels) - 1)) / len(panels), 560)
    whole = figure(34 + side + 56)
    top = max(float(panel.share.max()) for panel in panels) or 1.0
    for column, panel in enumerate(panels):
        drawn = axes(whole, 20 + column * (side + 24), 34, side, side)
        _pixels(drawn, panel, top, where)
        drawn.set_ylabel("True class" if column == 0 else "")
    _scale(axes(whole, 20, whole.get_figheight() * 72 - 30, 120, 10), top)
    return whole


def _pixels(drawn: "Axes", panel: Panel, top: float, where: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    image = (255 * mixed(MISTAKE, np.sqrt(panel.share / top))).astype(np.uint8)
    drawn.imshow(image, interpolation="none", extent=(0, 1, 1, 0))
    for spine in drawn.spines.values():
        spine.set_visible(True)
    drawn.set_xticks([])
    drawn.set_yticks([])
    drawn.set_xlabel("Predicted class")
    heading(drawn, f"“{label(panel.title, 30)}”, mistakes")
    middle, length = sum(where) / 2, max(where[1] - where[0], 0.025)
    corner = (middle - length / 2, middle - length / 2)
    drawn.add_patch(Rectangle(corner, length, length, fill=False, edgecolor=INK, linewidth=1))


def _scale(drawn: "Axes", top: float) -> None:
    """Draw the colour scale: which colour is which share of a row's images."""
    ramp = np.linspace(0, 1, 60)[None]
    drawn.imshow((255 * mixed(MISTAKE, np.sqrt(ramp))).astype(np.uint8), aspect="auto", extent=(0, 1, 1, 0))
    drawn.set_xticks([])
    drawn.set_yticks([])
    text = f"0 to {100 * top:.0f}% of a row's images"
    drawn.annotate(text, (1, 0.5), (8, 0), textcoords="offset points", va="center_baseline", color=SOFT)


NAMES: Final = (
    *("arms", "gains", "gains-distribution", "confusion", "confusion-block", confidence_charts.NAME),
    "classes",
)
ENDS: Final = 15  # of the best and of the worst, if there are more than NAMED
ROW: Final = 22  # pixels
STEPS: Final = 41  # bars of a distribution

Array = NDArray[np.float64]


def charts(evaluation: Evaluation) -> list[Chart]:
    """Return the charts that apply to an evaluation, in the order of the page."""
    return [
        arms(evaluation),
        *gains(evaluation, evaluation.arm),
        *confusion_charts(evaluation),
        *([confidence_charts.chart(evaluation.confidence)] if evaluation.confidence else []),
        distribution(evaluation),
    ]


def arms(evaluation: Evaluation) -> Chart:
    """Return the chart of the arms with their intervals and, next to them, their lead over the baseline."""
    words = "; ".join(
        f"{printable(arm.name)} {share(arm.top1.value)} ({share(arm.top1.low)} to {share(arm.top1.high)})"
        for arm in evaluation.arms
    )
    words = f"Top-1 in percent, with 95% confidence intervals: {words}"
    return Chart(
        "arms", "Methods compared, with 95% confidence intervals", words, partial(_draw_arms, evaluation)
    )


def _draw_arms(evaluation: Evaluation) -> "Figure":
    names = [_in_lines(arm.name, LONGEST) for arm in evaluation.arms]
    left, high = gutter("\n".join(names).split("\n")), 34 * len(names)
    baseline = evaluation.baseline
    plot = (WIDE - left - 24) * (0.54 if baseline else 1)
    whole = figure(TOP + high + BELOW)
    first = axes(whole, left, TOP, plot, high)
    name_rows(first, names)
    first.set_xlabel("Top-1 (dot) and mean per class (diamond), %")
    for row, arm in enumerate(evaluation.arms):
        _estimates(first, row, arm, evaluation)
    if baseline:
        start = left + plot + 32
        second = axes(whole, start, TOP, WIDE - start - 24, high)
        name_rows(second, [])
        _differences(second, evaluation, len(names))
        second.set_xlabel(f"Top-1 over “{label(baseline.name, 16)}”, percentage points")
    return whole


def _in_lines(name: str, columns: int) -> str:
    """Return an arm's name, on two lines if it does not fit: arms differ at the end of their names."""
    first, _, rest = name.partition(" ")
    if not rest or label(name, columns) == name:
        return label(name, columns)
    return f"{label(first, columns)}\n{label(rest, columns + 6)}"


def _colour(arm: ArmResult) -> str:
    return {"subject": LEAD, "control": PLAIN}.get(arm.role, INK)


def _estimates(axes: "Axes", row: int, arm: ArmResult, evaluation: Evaluation) -> None:
    """Draw an arm's figures, and a tick for each seed of a random arm."""
    axes.set_ylim(len(evaluation.arms) - 0.5, -0.5)
    interval(axes, row - 0.12, arm.top1, _colour(arm), "o", hollow=arm.role == "control")
    interval(axes, row + 0.2, arm.mean_per_class, _colour(arm), "d", hollow=True)
    if len(arm.runs) > 1:
        each = [100 * float(np.mean(run.predicted == evaluation.labels)) for run in arm.runs]
        axes.plot(each, [row - 0.36] * len(each), "|", color=PLAIN, markersize=5, alpha=0.7)


def _differences(axes: "Axes", evaluation: Evaluation, rows: int) -> None:
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axvline(0, color=SOFT, linewidth=1)
    for row, arm in enumerate(evaluation.arms):
        if arm.difference:
            hollow = arm.role == "control"
            interval(axes, row, arm.difference, _colour(arm), "o", hollow=hollow)
    axes.xaxis.set_major_formatter(signed_tick)


def ranked_gains(evaluation: Evaluation, arm: ArmResult) -> list[tuple[float, int]]:
    """Return each gain with its class, best first; among equal ones, larger classes are further out."""
    counts = evaluation.counts
    known = [(gain, number) for number, gain in enumerate(arm.gain or ()) if gain is not None]
    return sorted(known, key=lambda pair: (-pair[0], counts[pair[1]] * (-1 if pair[0] >= 0 else 1)))


def gains(evaluation: Evaluation, arm: ArmResult) -> list[Chart]:
    """Return a chart of each class's gain, best first; for many classes, both ends and the distribution."""
    ranked = [(gain, evaluation.classes[number]) for gain, number in ranked_gains(evaluation, arm)]
    if not ranked:
        return []
    many = len(ranked) > NAMED
    shown = [*ranked[:ENDS], None, *ranked[-ENDS:]] if many else list(ranked)
    (best, first), (worst, last) = ranked[0], ranked[-1]
    words = (
        f"Gain of each class in percentage points, from {printable(first)} {points(best)}"
        f" to {printable(last)} {points(worst)}"
    )
    title = f"The {ENDS} best and the {ENDS} worst classes" if many else "Gain per class"
    drawn_charts = [Chart("gains", title, words, partial(_draw_gains, shown))]
    if many:
        values = np.array([gain for gain, _ in ranked])
        summary = f"{np.sum(values > 0)} classes gain, {np.sum(values < 0)} lose"
        draw = partial(_draw_gain_distribution, values)
        drawn_charts.append(Chart("gains-distribution", "Distribution of gains", summary, draw))
    return drawn_charts


def _draw_gains(shown: Sequence[tuple[float, str] | None]) -> "Figure":
    names = [label(pair[1], LONGEST) if pair else "⋮" for pair in shown]
    values = [100 * pair[0] if pair else 0.0 for pair in shown]
    whole, drawn = _bars(names, values, "Gain, percentage points")
    room = 0.18 * (max(map(abs, values)) or 1.0)  # for the figures
    low, high = min(*values, 0), max(*values, 0)
    drawn.set_xlim(low - room if low < 0 or low == high else 0, high + room)
    drawn.axvline(0, color=SOFT, linewidth=1)
    drawn.locator_params(axis="x", nbins=8)
    drawn.xaxis.set_major_formatter(signed_tick)
    for row, pair in enumerate(shown):
        if pair:
            _figure(drawn, row, 100 * pair[0], points(pair[0]))
    return whole


def _bars(names: Sequence[str], values: Sequence[float], title: str) -> "tuple[Figure, Axes]":
    """Draw horizontal bars from zero, the first on top, negative ones in another colour."""
    left, high = gutter(names), ROW * len(names)
    whole = figure(TOP + high + BELOW)
    drawn = axes(whole, left, TOP, WIDE - left - 16, high)
    name_rows(drawn, names)
    colours = [LEAD if value > 0 else SECOND for value in values]
    drawn.barh(range(len(names)), values, height=0.62, color=colours)
    drawn.set_ylim(len(names) - 0.5, -0.5)
    drawn.set_xlabel(title)
    return whole, drawn


def _figure(axes: "Axes", row: int, value: float, text: str) -> None:
    """Write a figure at the end of its bar."""
    side, place = (5, "left") if value >= 0 else (-5, "right")
    axes.annotate(
        text, (value, row), (side, 0), textcoords="offset points", ha=place, va="center_baseline", color=SOFT
    )


def _draw_gain_distribution(values: Array) -> "Figure":
    reach = 100 * float(np.abs(values).max()) or 1.0
    heights, edges = np.histogram(100 * values, STEPS, (-reach, reach))
    middles = (edges[:-1] + edges[1:]) / 2
    colours = [PLAIN if at == STEPS // 2 else LEAD if at > STEPS // 2 else SECOND for at in range(STEPS)]
    whole, drawn = _frame("Gain, percentage points", "Classes")
    drawn.bar(middles, heights, width=0.86 * (edges[1] - edges[0]), color=colours)
    drawn.xaxis.set_major_formatter(signed_tick)
    return whole


def _frame(across: str, upwards: str) -> "tuple[Figure, Axes]":
    """Return a figure and axes, with their titles, for a distribution, with counts on the y axis."""
    whole = figure(TOP + 180 + BELOW)
    drawn = axes(whole, 68, TOP, WIDE - 96, 180)
    drawn.grid(axis="y")
    drawn.tick_params(axis="y", labelcolor=SOFT)
    drawn.yaxis.set_major_formatter(lambda value, _: amount(value))
    drawn.locator_params(axis="y", nbins=4, integer=True)
    drawn.set_xlabel(across)
    drawn.set_ylabel(upwards)
    return whole, drawn


def distribution(evaluation: Evaluation) -> Chart:
    """Return the chart of images per class."""
    counts = evaluation.counts
    words = f"Images per class: from {counts.min()} to {counts.max()}, median {np.median(counts):g}"
    return Chart("classes", "Images per class", words, partial(_draw_distribution, evaluation))


def _draw_distribution(evaluation: Evaluation) -> "Figure":
    counts = evaluation.counts
    ranked = np.argsort(-counts, kind="stable")
    if len(ranked) > NAMED:
        return _draw_curve(counts[ranked])
    names = [label(evaluation.classes[number], LONGEST) for number in ranked]
    whole, drawn = _bars(names, counts[ranked].tolist(), "Images")
    for patch in drawn.patches:
        patch.set_facecolor(PLAIN)
    drawn.set_xlim(0, 1.1 * max(int(counts.max()), 1))
    drawn.locator_params(axis="x", integer=True)
    for row, number in enumerate(ranked):
        _figure(drawn, row, counts[number], amount(counts[number]))
    return whole


def _draw_curve(counts: NDArray[np.int64]) -> "Figure":
    """Draw the classes' sizes, largest first; of more than 500, an evenly spaced sample."""
    whole, drawn = _frame("Classes, the largest first", "Images")
    at = np.unique(np.linspace(0, len(counts) - 1, 500).astype(int))
    drawn.fill_between(at + 1, counts[at], step="mid", color=PLAIN, linewidth=0)
    drawn.set_xlim(1, len(counts))
    drawn.set_ylim(0, 1.1 * counts.max())
    drawn.xaxis.set_major_formatter(lambda value, _: amount(value))
    return whole
