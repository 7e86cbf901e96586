"""An evaluation as one HTML page, and its charts as files."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from fieldmarks.errors import ReportError
from fieldmarks.evaluation.results import Evaluation, Exemplar
from fieldmarks.evaluation.summary import is_described
from fieldmarks.report import document, figures, roles
from fieldmarks.report.cards import card, relative
from fieldmarks.report.charts import NAMES, charts
from fieldmarks.report.drawing import MADE_BY, NARROW, Chart, needed
from fieldmarks.wording import counted

MAX_EXAMPLES: Final = 60
MAX_FAILURES: Final = 200
FEW: Final = 30  # pictures of a class, under which its own figures are mostly chance
FORMS: Final = ("svg", "png")  # of a chart as a file
MARK_WITHIN: Final = 2_000  # bytes at a chart's beginning, in which its origin stands
ENDINGS: Final = {b"<?xml": b"</svg>\n", b"\x89PNG": b"IEND\xaeB`\x82"}  # of a chart, by its beginning


def write_page(evaluation: Evaluation, path: Path) -> None:
    """Write the page. Raises ReportError where matplotlib or scipy is not installed, and as `check`."""
    check(path)
    document.write(path, html(evaluation))


def check(path: Path) -> None:
    """Raise ReportError where `write_page` would refuse: an earlier report is replaced, no other file is."""
    needed("matplotlib")
    document.check(path)


def save_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write each chart as SVG and as PNG into a folder, which is made if it is not there.

    Charts of an earlier run are replaced; files of the same names that are none are left, and nothing is
    written. Raises ReportError then, where the folder cannot be written, and without matplotlib or scipy.
    """
    check_plots(folder)
    drawn = {folder / f"{chart.name}.{form}": chart for chart in charts(evaluation) for form in FORMS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"{folder} cannot be made: {error.strerror or error}") from error
    for path, chart in drawn.items():
        document.replace(path, chart.png() if path.suffix == ".png" else chart.svg())
    return [*drawn]


def check_plots(folder: Path) -> None:
    """Raise ReportError where `save_plots` would refuse, whichever charts it draws."""
    needed("matplotlib")
    if os.path.lexists(folder) and not folder.is_dir():
        raise ReportError(f"{folder} already exists and is not a folder; choose another name for the charts")
    there = next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
    document.check_folder(folder, there)
    for path in (folder / f"{name}.{form}" for name in NAMES for form in FORMS):
        document.check_place(path, "a fieldmarks chart", _is_chart)


def _is_chart(file: BinaryIO) -> bool:
    """Whether a file is a chart that fieldmarks wrote: whole, in one of FORMS, with its mark."""
    beginning = file.read(MARK_WITHIN)
    file.seek(max(0, file.seek(0, os.SEEK_END) - max(map(len, ENDINGS.values()))))
    ending = file.read()
    is_whole = any(beginning.startswith(start) and ending.endswith(end) for start, end in ENDINGS.items())
    return MADE_BY.encode() in beginning and is_whole


def html(evaluation: Evaluation) -> str:
    """Return the page. Raises ReportError where matplotlib or scipy is not installed."""
    subject, reference = roles.subject(evaluation), roles.reference(evaluation)
    predictions = [one.prediction for one in evaluation.examples]
    counts = evaluation.counts
    context = {
        "evaluation": evaluation,
        "subject": subject,
        "reference": reference,
        "charts": {chart.name: _chart(chart) for chart in charts(evaluation)},
        "arms": [(arm, "subject" if is_described(arm.name) else "") for arm in evaluation.arms],
        "controls": any(roles.is_control(arm) for arm in evaluation.arms),
        "tally": figures.tally(subject),
        "classes": figures.class_rows(evaluation),
        "extent": f"{counted(int(counts.sum()), 'picture')} in {counted(len(counts), 'class')}",
        "sizes": (int(counts.min()), float(np.median(counts)), int(counts.max())),
        "typical": float(np.median(counts[counts > 0])),
        "few": FEW,
        "pairs": figures.pairs(evaluation),
        "effects": figures.effects(evaluation) if evaluation.effects else [],
        "examples": [_example(one) for one in evaluation.examples[:MAX_EXAMPLES]],
        "relative": relative(predictions),
        "command": _command(evaluation.settings.get("command")),
        "settings": figures.settings(evaluation.settings),
        "failures": evaluation.failures[:MAX_FAILURES],
        "failed": len(evaluation.failures),
    }
    return document.render("evaluation.html.j2", ("page.css", "evaluation.css"), context)


def _chart(chart: Chart) -> dict[str, str]:
    """Return a chart as pictures of two widths. They are no markup, so the page needs no looser policy."""
    wide, narrow = (document.data_uri("image/svg+xml", one) for one in (chart.svg(), chart.svg(NARROW)))
    return {"title": chart.title, "words": chart.words, "wide": wide, "narrow": narrow}


def _example(one: Exemplar) -> dict[str, Any]:
    answers = [(arm, answer, answer == one.label) for arm, answer in one.by.items()]
    return card(one.prediction) | {"true": one.label, "answers": answers}


def _command(given: str | Sequence[str] | None) -> str | None:
    """Return the command line that runs the evaluation again, where the settings hold it."""
    return given if given is None or isinstance(given, str) else shlex.join(given)
