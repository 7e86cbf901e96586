"""Confusion as charts: few classes by name; of many, the whole in blocks, and the worst block by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from fieldmarks.evaluation.results import ArmResult, Evaluation
from fieldmarks.report import confusion, roles
from fieldmarks.report.confusion import Chosen, Matrix
from fieldmarks.report.drawing import (
    INK,
    LEAD,
    LINE,
    LONGEST,
    MISTAKE,
    SOFT,
    WIDE,
    Chart,
    axes,
    figure,
    gutter,
    heading,
    label,
    mixed,
)
from fieldmarks.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED: Final = 30  # classes whose matrix is shown whole
BLOCK: Final = 12  # classes of the worst block, and of two matrices side by side
BINS: Final = 200  # rows of an overview
LINE_HEIGHT: Final = 15  # pixels that a name needs
DARKEST: Final = 0.5  # the share of mistakes that has the full colour


@dataclass(frozen=True, slots=True)
class Panel:
    """A matrix of shares with its arm's name."""

    title: str
    share: Matrix


def charts(evaluation: Evaluation) -> list[Chart]:
    """Return the matrix of the arm in question, and of the arm compared with beside it where both fit."""
    subject, reference = roles.subject(evaluation), roles.reference(evaluation)
    classes = len(evaluation.classes)
    chosen = confusion.most_mistaken(subject, evaluation.labels, classes)
    if len(chosen) < 2:
        return []
    pair = [reference, subject] if reference else [subject]
    shares = [_share(evaluation, arm, chosen) for arm in pair]
    tree = confusion.cluster(np.mean(shares, axis=0))  # of both, so that neither is favoured
    ordered = chosen[confusion.order(tree)]
    if classes <= NAMED:
        shown = pair if classes <= BLOCK else [subject]
        return [_named("confusion", "What was taken for what", evaluation, shown, ordered)]
    block = chosen[confusion.worst_block(tree, shares[-1] * evaluation.counts[chosen, None], BLOCK)]
    overview = _overview(evaluation, pair, ordered, block)
    return [
        overview,
        _named("confusion-block", "The block of classes most confused", evaluation, pair, block),
    ]


def _share(evaluation: Evaluation, arm: ArmResult, chosen: Chosen) -> Matrix:
    pictures = confusion.matrix(arm, evaluation.labels, chosen, len(evaluation.classes))
    return confusion.shares(pictures, evaluation.counts[chosen])


def _named(
    name: str, title: str, evaluation: Evaluation, shown: Sequence[ArmResult], chosen: Chosen
) -> Chart:
    names = [evaluation.classes[one] for one in chosen]
    panels = [Panel(arm.name, _share(evaluation, arm, chosen)) for arm in shown]
    listed = ", ".join(map(printable, names))
    words = f"Confusion matrix of {listed}; the pairs most confused are in the table below"
    return Chart(name, title, words, partial(_draw_named, names, panels))


def _draw_named(names: Sequence[str], panels: Sequence[Panel], width: int) -> "Figure":
    short = [label(name, LONGEST[width] - (3 if len(panels) > 1 else 0)) for name in names]
    left = gutter(short)
    across = len(panels) if width == WIDE else 1
    side = min((width - left - 8 - 28 * (across - 1)) / across, 46 * len(names))
    tall = max(side, LINE_HEIGHT * len(names))
    below = left if side >= LINE_HEIGHT * len(names) else 0  # else the columns are told by the rows alone
    high = 34 + tall + below + 12
    made = figure(width, high * (len(panels) // across))
    step = max(side + 28, (width - left) / across)  # small ones stand apart, as their titles are wider
    for number, panel in enumerate(panels):
        column, row = number % across, number // across
        drawn = axes(made, left + column * step, 34 + row * high, side, tall)
        what = "rows: true class, columns: answer, %" if width == WIDE else "%"
        heading(drawn, f"“{label(panel.title, 20)}”, {what}", left - 8 if column == 0 else 0)
        _cells(drawn, panel.share, side / len(names))
        drawn.set_xticks(range(len(names)) if below else [], short if below else [], rotation=90, color=INK)
        drawn.set_yticks(range(len(names)), short if column == 0 else [""] * len(names))
    return made


def _cells(drawn: "Axes", share: Matrix, size: float) -> None:
    """Draw right answers in one colour and mistakes in another; figures where a cell has room for them."""
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
    starts = confusion.edges(len(ordered), BINS)
    pictures = np.add.reduceat(evaluation.counts[ordered], starts)
    panels = []
    for arm in shown:
        every = confusion.matrix(arm, evaluation.labels, ordered, len(evaluation.classes))
        mistakes = confusion.pooled(confusion.without_diagonal(every), starts)
        panels.append(Panel(arm.name, confusion.shares(mistakes, pictures)))
    place = np.flatnonzero(np.isin(ordered, block))
    where = (float(place.min()) / len(ordered), float(place.max() + 1) / len(ordered))
    words = f"The mistakes among {len(ordered)} classes, those confused with each other beside each other"
    all_of_them = len(ordered) == len(evaluation.classes)
    title = "All mistakes" if all_of_them else f"The {len(ordered):,} classes with the most mistakes"
    return Chart("confusion", title, words, partial(_draw_overview, panels, where))


def _draw_overview(panels: Sequence[Panel], where: tuple[float, float], width: int) -> "Figure":
    across = len(panels) if width == WIDE else 1
    side = min((width - 26 - 24 * (across - 1)) / across, 560)
    high = 34 + side + 30
    made = figure(width, high * (len(panels) // across) + 26)
    top = max(float(panel.share.max()) for panel in panels) or 1.0
    for number, panel in enumerate(panels):
        column, row = number % across, number // across
        drawn = axes(made, 20 + column * (side + 24), 34 + row * high, side, side)
        _pixels(drawn, panel, top, where)
        drawn.set_ylabel("true class" if column == 0 else "")
    _scale(axes(made, 20, made.get_figheight() * 72 - 30, 120, 10), top)
    return made


def _pixels(drawn: "Axes", panel: Panel, top: float, where: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    image = (255 * mixed(MISTAKE, np.sqrt(panel.share / top))).astype(np.uint8)
    drawn.imshow(image, interpolation="none", extent=(0, 1, 1, 0))
    for spine in drawn.spines.values():
        spine.set_visible(True)
    drawn.set_xticks([])
    drawn.set_yticks([])
    drawn.set_xlabel("class answered")
    heading(drawn, f"“{label(panel.title, 30)}”, mistakes")
    middle, length = sum(where) / 2, max(where[1] - where[0], 0.025)
    corner = (middle - length / 2, middle - length / 2)
    drawn.add_patch(Rectangle(corner, length, length, fill=False, edgecolor=INK, linewidth=1))


def _scale(drawn: "Axes", top: float) -> None:
    """Draw which colour is which share of a row's pictures."""
    ramp = np.linspace(0, 1, 60)[None]
    drawn.imshow((255 * mixed(MISTAKE, np.sqrt(ramp))).astype(np.uint8), aspect="auto", extent=(0, 1, 1, 0))
    drawn.set_xticks([])
    drawn.set_yticks([])
    text = f"0 to {100 * top:.0f} % of a row's pictures"
    drawn.annotate(text, (1, 0.5), (8, 0), textcoords="offset points", va="center_baseline", color=SOFT)
