"""Evaluations side by side as tables for papers and spreadsheets: Markdown, LaTeX and CSV.

Markdown and LaTeX show figures as pages do, in percent and points with their 95% intervals. CSV has a column
for each number, with shares from 0 to 1, like `Evaluation.to_pandas`. With one run, arms are compared with
its baseline; with several, each arm with that of the first run.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fieldmarks.evaluation.comparison import Comparison, Row
from fieldmarks.evaluation.results import Difference, Estimate
from fieldmarks.evaluation.summary import WITHOUT_P
from fieldmarks.report.numbers import MINUS, NONE, p_value, points, share
from fieldmarks.tables.writing import csv_text
from fieldmarks.text import printable

Line = Sequence[str]
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>|~$&#])")
_LATEX: Final = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "–": "--",
    "“": "``",
    "”": "''",
    "’": "'",
    MINUS: "$-$",
}
_LATIN: Final = 0x17F  # the last letter that pdfLaTeX sets without extra packages


@dataclass(frozen=True, slots=True)
class Table:
    """A table to be formatted: its first `texts` columns are names, the others figures; notes follow it."""

    heading: Line
    rows: Sequence[Line]
    texts: int
    notes: Sequence[str]


def table(comparison: Comparison) -> Table:
    """Return the arms of all runs as one table."""
    several = len(comparison.runs) > 1
    first = comparison.runs[0].name
    baseline = comparison.runs[0].evaluation.baseline
    against = first if several else baseline.name if baseline else None
    heading = ["Method", *(["Run"] if several else []), "Top-1, %"]
    heading += [f"vs {against}, points", "McNemar’s p"] if against else []
    heading += ["Mean per class, %"]
    rows = []
    for group in comparison.groups:
        for row in group.rows:
            lead = row.lead if several else row.arm.difference
            cells = [group.arm, *([comparison.runs[row.run].name] if several else []), estimate(row.arm.top1)]
            cells += [difference(lead), p_value(lead.p) if lead else NONE] if against else []
            rows.append([*cells, estimate(row.arm.mean_per_class)])
    leads = [row.lead if several else row.arm.difference for group in comparison.groups for row in group.rows]
    notes = [
        "95% confidence intervals in brackets.",
        *([comparison.difference] if comparison.difference else []),
        *([WITHOUT_P] if any(lead and lead.p is None for lead in leads) else []),
        *comparison.notes,
    ]
    return Table(heading, rows, 2 if several else 1, notes)


def estimate(figure: Estimate) -> str:
    """Return a share in percent with its interval: "63.1 (60.2–65.9)"."""
    return f"{share(figure.value)} ({share(figure.low)}–{share(figure.high)})"


def difference(lead: Difference | None) -> str:
    """Return a lead in points with its interval: "+1.2 (−0.4 to +2.8)"."""
    return f"{points(lead.value)} ({points(lead.low)} to {points(lead.high)})" if lead else NONE


def markdown(comparison: Comparison) -> str:
    """Return the table as Markdown for GitHub and Pandoc."""
    content = table(comparison)
    alignment = ["---" if column < content.texts else "---:" for column in range(len(content.heading))]
    lines = [_line(map(_for_markdown, content.heading)), _line(alignment)]
    lines += [_line(map(_for_markdown, row)) for row in content.rows]
    notes = "\n\n".join(map(_for_markdown, content.notes))
    return "\n".join(lines) + f"\n\n{notes}\n"


def latex(comparison: Comparison) -> str:
    """Return the table as a LaTeX tabular with booktabs rules."""
    content = table(comparison)
    columns = "l" * content.texts + "r" * (len(content.heading) - content.texts)
    rows = [" & ".join(map(_for_latex, row)) + r" \\" for row in content.rows]
    is_latin = all(
        ord(letter) <= _LATIN or letter in _LATEX for row in content.rows for letter in "".join(row)
    )
    lines = [
        "% needs \\usepackage{booktabs}",
        *(
            []
            if is_latin
            else ["% has letters beyond Latin: use LuaLaTeX or XeLaTeX and a font that has them"]
        ),
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(_for_latex, content.heading)) + r" \\",
        "\\midrule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}",
        *(f"\\par\\smallskip {_for_latex(note)}" for note in content.notes),
    ]
    return "\n".join(lines) + "\n"


def csv(comparison: Comparison) -> str:
    """Return the comparison as CSV for spreadsheets, with each number in its own column."""
    figures = ("top1", "top5", "mean_per_class", "difference", "lead")
    heading = ["run", "store", "model", "images", "classes", "arm", "role"]
    heading += [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    heading += ["difference_to", "difference_p", "lead_to", "lead_p", "differs_in", "note"]
    return csv_text([heading, *_csv_rows(comparison)])


def _csv_rows(comparison: Comparison) -> Iterator[list[object]]:
    for group in comparison.groups:
        for row in group.rows:
            yield _csv_row(comparison, row)


def _csv_row(comparison: Comparison, row: Row) -> list[object]:
    run, arm = comparison.runs[row.run], row.arm
    facts, evaluation = run.facts, run.evaluation
    names: list[object] = [run.name, facts.get("Store", facts.get("Classifier")), facts.get("Model")]
    names += [len(evaluation.images), len(evaluation.classes), arm.name, arm.role]
    for figure in (arm.top1, arm.top5, arm.mean_per_class, arm.difference, row.lead):
        names += [figure.value, figure.low, figure.high] if figure else [None, None, None]
    for lead in (arm.difference, row.lead):
        names += [lead.to, lead.p] if lead else [None, None]
    differing = "; ".join(f"{term} {values[row.run]}" for term, values in comparison.differing.items())
    return [*names, differing or None, run.obstacle or None]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _for_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _for_latex(text: str) -> str:
    latin = "".join(_LATEX.get(letter, letter) for letter in printable(text).replace("--", "-\0-"))
    latin = latin.replace("\0", "{}")  # else it sets a dash
    return f"{{}}{latin}" if latin.startswith(("[", "*")) else latin  # else the row above would read it


WRITERS: Final[dict[str, Callable[[Comparison], str]]] = {"markdown": markdown, "csv": csv, "latex": latex}
SUFFIXES: Final = {".md": "markdown", ".csv": "csv", ".tex": "latex"}
