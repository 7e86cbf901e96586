"""Write charts to a folder, replacing those of an earlier run and nothing else."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from fieldmarks.errors import ReportError
from fieldmarks.paths import unusable_folder
from fieldmarks.report import document
from fieldmarks.report.chart_style import MADE_BY, Chart, Form, needed

FORMS: Final[tuple[Form, ...]] = ("svg", "png", "pdf")  # of a chart as a file
MARK_WITHIN: Final = 65_536  # bytes at a chart's beginning or end that contain its origin
ENDINGS: Final = {b"<?xml": b"</svg>\n", b"\x89PNG": b"IEND\xaeB`\x82", b"%PDF": b"%%EOF\n"}  # by beginning


def save(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write each chart as SVG, PNG and PDF to a folder, which is created if missing.

    Charts of an earlier run are replaced; if a file of the same name is not one, nothing is written. Raises
    ReportError in that case, if the folder cannot be written, or without matplotlib or scipy.
    """
    check([chart.name for chart in charts], folder)
    drawn = {folder / f"{chart.name}.{form}": (chart, form) for chart in charts for form in FORMS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"{folder} cannot be created: {error.strerror or error}") from error
    for path, (chart, form) in drawn.items():
        document.replace(path, chart.file(form))
    return [*drawn]


def check(names: Sequence[str], folder: Path) -> list[Path]:
    """Return the files that `save` would write for charts of these names. Raises ReportError as it does."""
    needed("matplotlib")
    if os.path.lexists(folder) and not folder.is_dir():
        raise ReportError(f"{folder} already exists and is not a folder; choose another name for the charts")
    if reason := unusable_folder(folder):
        raise ReportError(f"{folder} {reason}")
    files = [folder / f"{name}.{form}" for name in names for form in FORMS]
    for path in files:
        document.check_place(path, "a fieldmarks chart", _is_chart)
    return files


def _is_chart(file: BinaryIO) -> bool:
    """Whether a file is a complete chart written by fieldmarks, in one of FORMS, with its mark."""
    beginning = file.read(MARK_WITHIN)
    file.seek(max(0, file.seek(0, os.SEEK_END) - MARK_WITHIN))
    ending = file.read()
    is_whole = any(beginning.startswith(start) and ending.endswith(end) for start, end in ENDINGS.items())
    return is_whole and (MADE_BY.encode() in beginning or MADE_BY.encode() in ending)
