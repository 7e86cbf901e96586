"""An evaluation as lines of at most 80 columns: the arms with their intervals, and descriptors by effect."""

from collections.abc import Iterator, Sequence
from typing import Final

from fieldmarks.data.check import Preflight
from fieldmarks.evaluation.estimates import BackOff, Confidence
from fieldmarks.evaluation.metrics import broader
from fieldmarks.evaluation.results import ArmResult, DescriptorEffect, Difference, Estimate, Evaluation
from fieldmarks.evaluation.summary import MINUS, WITHOUT_P
from fieldmarks.text import columns, counted, cut, padded, printable

WIDTH: Final = 80
EFFECTS_SHOWN: Final = 8  # of the worst, and of the best
NO_EFFECT: Final = (
    "No prediction depends on a single descriptor: leaving out any one changes no answer, as the class's"
    " other descriptors still decide. Only margins differ."
)
EFFECTS_EXPLAINED: Final = (
    "points: top-1 gained with the descriptor, over leaving it out; own, others: how far it raises, in"
    " logits, the margin of its class's images, and of all others. The most harmful first: sorted by points,"
    " then by own + others."
)
ARM_ENDS: Final = (40, 60, 80)  # columns at which the cells of a row end
LEAD_ENDS: Final = (46, 66)
CONFIDENCE_ENDS: Final = (58,)
SUREST: Final = (0.5, 0.8, 1.0)  # shares of the images, those with the highest confidence
_BETWEEN: Final = 2  # minimum spaces before a cell
_DESCRIPTOR: Final = 36
_CLASS: Final = 18


def lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the arms' figures, the conclusions, the confidence, and the descriptors if they were ablated."""
    arms = evaluation.arms
    distinct = f" ({len(evaluation.distinct):,} distinct)" if evaluation.repeats else ""
    images = counted(len(evaluation.images), "image") + distinct
    yield f"{images}, {counted(len(evaluation.classes), 'class')}; accuracy in %, 95% CI in brackets"
    top5 = any(arm.top5 for arm in arms)
    yield row("arm", ["top-1", *(["top-5"] if top5 else []), "mean per class"])
    for arm in arms:
        figures = [arm.top1, *([arm.top5] if arm.top5 else []), arm.mean_per_class]
        yield from named(arm_name(arm), [estimate(figure) for figure in figures])
    if evaluation.parents:
        yield ""
        yield row(f"by broader class ({len(set(evaluation.parents.values())):,})", ["top-1"])
        for arm in arms:
            yield from named(arm_name(arm), [estimate(broader(evaluation, arm))])
    if evaluation.back_off:
        yield ""
        yield from back_off(evaluation.back_off)
    compared = [(arm, arm.difference) for arm in arms if arm.difference]
    if compared:
        yield ""
        yield row(f"vs {compared[0][1].to}", ["top-1, points", "McNemar's p"], LEAD_ENDS)
        for arm, difference in compared:
            yield from named(arm_name(arm), [signed_lead(difference), p_value(difference)], LEAD_ENDS)
        if any(difference.p is None for _, difference in compared):
            yield from wrapped(WITHOUT_P)
    yield ""
    for sentence in evaluation.summary:
        yield from wrapped(sentence)
    if evaluation.confidence:
        yield ""
        yield from confidence(evaluation.confidence)
    if evaluation.effects:
        yield ""
        yield from effects(evaluation.effects)


def confidence(figures: Confidence) -> Iterator[str]:
    """Yield the figures of a classifier's confidence, one per row, with what was asked for."""
    yield row(
        f"confidence, {counted(figures.images, 'image')}, in %", ["95% CI in brackets"], CONFIDENCE_ENDS
    )
    rows = [("calibration error", estimate(figures.error), "")]
    surest = " / ".join(f"{100 * figures.risk_at(part):.1f}" for part in SUREST)
    of = "/".join(f"{100 * part:.0f}" for part in SUREST)
    rows += [(f"error of the surest {of}%", surest, "")]
    best = f"best possible {100 * figures.best_aurc:.1f}"
    rows += [("area under risk and coverage", estimate(figures.aurc), best)]
    if sets := figures.sets:
        rows += [
            ("sets with the true label", estimate(sets.coverage), _asked("at least", sets.asked)),
            ("labels in a set", f"{sets.size:.2f}", f"one: {sets.single:.0%}, none: {sets.empty:.0%}"),
        ]
    if rejections := figures.rejections:
        of_own = "true class under its threshold"
        rows += [(of_own, estimate(rejections.own), _asked("at most", rejections.asked))]
        rows += [("answered with none of these", estimate(rejections.all), "")]
        if rejections.answered:
            rows += [("accuracy of the others", estimate(rejections.answered), "")]
    if unknown := figures.unknown:
        of = f"of {counted(unknown.images, 'unknown image')}"
        rows += [(f"AUROC by score, {of}", estimate(unknown.by_score), "")]
        rows += [("AUROC by probability", estimate(unknown.by_probability), "")]
        if unknown.rejected:
            rows += [("unknown, none of these", estimate(unknown.rejected), "")]
    yield from _figures(rows)


def back_off(figures: BackOff) -> Iterator[str]:
    """Yield how often a broader class is answered, and how often what is answered is right."""
    yield row(
        f"with --back-off, {counted(figures.images, 'image')}, in %", ["95% CI in brackets"], CONFIDENCE_ENDS
    )
    rows = [("answered with a broader class", estimate(figures.broader), "")]
    if figures.right_broader:
        rows += [("  of these correct", estimate(figures.right_broader), "")]
    if figures.right_narrow:
        rows += [("accuracy of the others", estimate(figures.right_narrow), "")]
    yield from _figures([*rows, ("correct at either level", estimate(figures.right), "")])


def _figures(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield rows of a figure's name, the figure, and what to read beside it."""
    for name, figure, beside in rows:
        yield f"{row(name, [figure], CONFIDENCE_ENDS):{CONFIDENCE_ENDS[0] + _BETWEEN}}{beside}".rstrip()


def _asked(bound: str, asked: float | None) -> str:
    return "" if asked is None else f"{bound} {100 * asked:.3g} asked"


def preflight(preflight: Preflight) -> Iterator[str]:
    """Yield the classes of a data set with their images."""
    rows = preflight.rows()
    width = max(columns(name) for name, _ in rows)
    for name, count in rows:
        yield f"  {padded(name, width)}  {count:>6}"
    more = [f"{preflight.left_out:,} left out"] if preflight.left_out else []
    more += [f"{preflight.failures:,} without a usable label"] if preflight.failures else []
    more += [f"{len(preflight.missing):,} missing"] if preflight.missing else []
    images = counted(sum(preflight.images.values()), "image")
    yield ", ".join([f"{images} in {counted(len(preflight.images), 'class')}", *more])


def extent(preflight: Preflight) -> str:
    """Return the numbers of images and of classes, and the classes' sizes, in one line."""
    counts = preflight.images.values()
    sizes = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,}–{max(counts):,}"
    each = f"{sizes} each" if len(counts) > 1 else ""
    words = f"{counted(sum(counts), 'image')} in {counted(len(counts), 'class')}"
    return f"{words}, {each}" if each else words


def effects(ordered: Sequence[DescriptorEffect]) -> Iterator[str]:
    """Yield the worst and the best descriptors; `ordered` has all of them, the worst first."""
    yield "leave-one-out effect of each descriptor (top-1 points; margin in logits)"
    if not any(effect.effect for effect in ordered):
        yield from wrapped(NO_EFFECT)
    yield from wrapped(EFFECTS_EXPLAINED)
    shown = [*ordered[:EFFECTS_SHOWN], *ordered[EFFECTS_SHOWN:][-EFFECTS_SHOWN:]]
    yield f"{'class':{_CLASS}}  {'descriptor':{_DESCRIPTOR}}  {'points':>7}  {'own':>5}  {'others':>6}"
    for number, effect in enumerate(shown):
        if number == EFFECTS_SHOWN and len(ordered) > len(shown):
            yield f"… {len(ordered) - len(shown):,} more"
        names = f"{_cell(effect.name, _CLASS)}  {_cell(effect.descriptor, _DESCRIPTOR)}"
        points, own = _sign(100 * effect.effect, 2), _sign(effect.margin, 1)
        yield f"{names}  {points:>7}  {own:>5}  {_sign(effect.others_margin, 2):>6}"


def wrapped(sentence: str) -> Iterator[str]:
    """Yield a sentence as lines, broken between words."""
    line = ""
    for word in printable(sentence).split(" "):
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def arm_name(arm: ArmResult) -> str:
    """Return an arm's name, with the number of draws if it is random."""
    runs, name = len(arm.runs), printable(arm.name)
    return f"{name} (of {runs})" if runs > 1 else name


def named(name: str, cells: Sequence[str], ends: Sequence[int] = ARM_ENDS) -> Iterator[str]:
    """Yield a row of the table; a name that leaves no room for the first cell gets its own line."""
    if columns(name) + _BETWEEN + len(cells[0]) > ends[0]:
        yield name
        name = ""
    yield row(name, cells, ends)


def row(name: str, cells: Sequence[str], ends: Sequence[int] = ARM_ENDS) -> str:
    """Return a row of a table: a name, and figures right-aligned in their columns."""
    line = name
    for cell, end in zip(cells, ends, strict=False):
        line += " " * (end - columns(line) - len(cell)) + cell
    return line.rstrip()


def estimate(figure: Estimate) -> str:
    """Return a share in percent with its interval."""
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f}–{100 * figure.high:.1f})"


def signed_lead(lead: Difference) -> str:
    """Return a lead in points with its interval, each number with its sign."""
    value, low, high = (_sign(100 * share, 1) for share in (lead.value, lead.low, lead.high))
    return f"{value} ({low} to {high})"


def _sign(value: float, digits: int) -> str:
    """Return a number with its sign; if it rounds to zero, it has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def p_value(lead: Difference) -> str:
    """Return McNemar's p-value, or "" if there is none."""
    if lead.p is None:
        return ""
    return "<0.001" if lead.p < 0.0005 else f"{lead.p:.3f}"


def _cell(text: str, width: int) -> str:
    return padded(cut(printable(text), width), width)
