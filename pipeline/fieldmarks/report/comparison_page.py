"""Evaluations side by side on one HTML page with one chart: the runs, each arm's figures, who leads."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fieldmarks.evaluation.comparison import Comparison
from fieldmarks.evaluation.summary import verdict
from fieldmarks.report import document
from fieldmarks.report.chart_style import (
    BELOW,
    INK,
    LEAD,
    LONGEST,
    PLAIN,
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
    name_rows,
    needed,
    signed_tick,
)
from fieldmarks.report.document import Imprint, data_uri, fragment
from fieldmarks.report.evaluation_page import command_of
from fieldmarks.report.numbers import share
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME: Final = "comparison"  # of the chart's file
ROW: Final = 26  # pixels of a run's row in the chart
GAP: Final = 34  # between arms
MAX_GROUPS: Final = 40  # arms in the chart


def write_page(comparison: Comparison, path: Path, imprint: Imprint | None = None) -> None:
    """Write the page. Raises ReportError if matplotlib is not installed, and as `document.check` does."""
    needed("matplotlib")
    document.write(path, html(comparison, imprint))


def html(comparison: Comparison, imprint: Imprint | None = None) -> str:
    """Return the page. Raises ReportError if matplotlib is not installed."""
    first, *others = comparison.runs
    drawn = chart(comparison)
    body = fragment(
        "comparison.html.j2",
        comparison=comparison,
        first=first,
        sentences=comparison.sentences(),
        verdicts={run.name: verdict(run.evaluation.arms, run.evaluation.distinct) for run in comparison.runs},
        commands={run.name: command_of(run.evaluation.settings) for run in comparison.runs},
        chart={
            "title": drawn.title,
            "words": drawn.words,
            "image": data_uri("image/svg+xml", drawn.svg()),
        },
        compared=any(run.obstacle is None for run in others),
    )
    facts = {"Runs": ", ".join(run.name for run in comparison.runs)}
    extent = counted(len(first.evaluation.images), "image")
    classes = counted(len(first.evaluation.classes), "class")
    if comparison.notes:
        title = f"{counted(len(comparison.runs), 'evaluation')} side by side"
    else:
        title = f"{counted(len(comparison.runs), 'evaluation')} of {extent} in {classes}, side by side"
    return document.document(title, body, facts, imprint=imprint, styles=("evaluation.css",))


def chart(comparison: Comparison) -> Chart:
    """Return a chart of each arm's top-1 in every run with its interval, and its lead over the first run."""
    runs = comparison.runs
    words = "; ".join(
        f"{printable(group.arm)}, {printable(runs[row.run].name)}: {share(row.arm.top1.value)}"
        f" ({share(row.arm.top1.low)} to {share(row.arm.top1.high)})"
        for group in comparison.groups
        for row in group.rows
    )
    title = "Each method in every run, with 95% confidence intervals"
    return Chart(NAME, title, f"Top-1 in percent: {words}", partial(_draw, comparison))


def _draw(comparison: Comparison) -> "Figure":
    groups, runs = comparison.groups[:MAX_GROUPS], comparison.runs
    names = [label(run.name, LONGEST) for run in runs]
    left = gutter(names)
    compared = any(row.lead for group in groups for row in group.rows)
    plot = (WIDE - left - 24) * (0.54 if compared else 1)
    heights = [ROW * len(group.rows) for group in groups]
    whole = figure(TOP + sum(heights) + GAP * len(groups) + BELOW - 12)
    low = min(row.arm.top1.low for group in groups for row in group.rows)
    high = max(row.arm.top1.high for group in groups for row in group.rows)
    leads = [row.lead for group in groups for row in group.rows if row.lead]
    reach = max((max(abs(lead.low), abs(lead.high)) for lead in leads), default=0) or 0.01
    top = float(TOP)
    for group, height in zip(groups, heights, strict=True):
        last = group is groups[-1]
        first = axes(whole, left, top + GAP - 12, plot, height)
        name_rows(first, [names[row.run] for row in group.rows])
        first.set_ylim(len(group.rows) - 0.5, -0.5)
        heading(first, label(group.arm, 60), left - 8)
        first.set_xlim(100 * low - 3, 100 * high + 3)
        for place, row in enumerate(group.rows):
            colour = LEAD if row.arm.role == "subject" else PLAIN if row.arm.role == "control" else INK
            interval(first, place, row.arm.top1, colour, "o", hollow=row.arm.role == "control")
        if compared:
            start = left + plot + 32
            second = axes(whole, start, top + GAP - 12, WIDE - start - 24, height)
            name_rows(second, [])
            second.set_ylim(len(group.rows) - 0.5, -0.5)
            second.set_xlim(-110 * reach, 110 * reach)
            second.axvline(0, color=SOFT, linewidth=1)
            second.xaxis.set_major_formatter(signed_tick)
            for place, row in enumerate(group.rows):
                if row.lead:
                    interval(second, place, row.lead, LEAD, "o", hollow=False)
            second.tick_params(labelbottom=last)
            if last:
                second.set_xlabel(f"Top-1 over {label(runs[0].name, 24)}, percentage points")
        first.tick_params(labelbottom=last)
        if last:
            first.set_xlabel("Top-1, %")
        top += height + GAP
    return whole
