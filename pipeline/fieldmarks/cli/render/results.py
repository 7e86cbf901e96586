"""Results as lines: a table for people, JSON lines and CSV for programs; nothing is printed here.

Explanations in a table carry colours, which `click.echo` takes away where it does not write to a terminal.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import orjson
from click import style

from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction
from fieldmarks.text import columns as columns_of
from fieldmarks.text import folded, padded, printable

CSV_COLUMNS: Final = ("image", "rank", "class", "probability", "logit", "baseline", "error")
BAR: Final = 24  # characters of the longest bar
LEAD: Final = "green"  # the bars of the predicted class
SECOND: Final = "yellow"  # the bars of the runner-up
WIDEST_NAME: Final = 40
UNSURE: Final = "(unsure)"
SHORTEST: Final = 16  # columns of descriptors
_CLASS: Final = " " * 10
_MARK: Final = " " * 12


Lines = Callable[[Prediction | Failure], Iterable[str]]  # of one result


def header(form: str) -> tuple[str, ...]:
    """Return the lines that come before all results in a form of output."""
    return (csv_row(*CSV_COLUMNS),) if form == "csv" else ()


def printer(
    form: str,
    classes: Sequence[str],
    *,
    top: int,
    explain: bool,
    baseline: bool = True,
    columns: int | None = None,
) -> Lines:
    """Return a form of output by its name ("table", "jsonl", "csv", "journal"); a table must fit `classes`.

    Of a prediction it shows the `top` classes, the marks if `explain`, the baseline's answer if `baseline`.
    `columns` are those of the terminal, if a table is for one.
    """

    def cut(result: Prediction | Failure) -> Prediction | Failure:
        if isinstance(result, Failure):
            return result
        return replace(
            result,
            scores=result.scores[:top],
            baseline=result.baseline if baseline else None,
            explanation=result.explanation if explain else None,
        )

    if form == "jsonl":
        return lambda result: (jsonl(cut(result)),)
    if form == "journal":
        return lambda result: (journal_line(cut(result)),)
    if form == "csv":
        return lambda result: csv_rows(cut(result))
    width = min(max(len(printable(name)) for name in (*classes, UNSURE)), WIDEST_NAME)
    return lambda result: table_rows(cut(result), width, columns)


def jsonl(result: Prediction | Failure) -> str:
    """Return the result as one JSON object."""
    return orjson.dumps(result.to_dict()).decode()


def journal_line(result: Prediction | Failure) -> str:
    """Return the result as one JSON object that also says which version of the image's file was read."""
    version = None if isinstance(result, Failure) else result.version
    file = {"file": version.to_dict()} if version else {}
    return orjson.dumps(result.to_dict() | file).decode()


def csv_rows(result: Prediction | Failure) -> Iterator[str]:
    """Yield a row for each class shown, best first, or one row with the error; see CSV_COLUMNS."""
    if isinstance(result, Failure):
        yield csv_row(result.image, "", "", "", "", "", result.error)
        return
    baseline = result.baseline.name if result.baseline else ""
    for rank, score in enumerate(result.scores, 1):
        numbers = (f"{score.probability:.6g}", f"{score.logit:.6g}")
        yield csv_row(result.image, rank, score.name, *numbers, baseline, "")


def csv_row(*cells: object) -> str:
    """Return the cells as one line of CSV, without its line end."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def table_rows(prediction: Prediction | Failure, width: int, columns: int | None = None) -> Iterator[str]:
    """Yield an image's line, its class padded to `width`; then further classes, then marks.

    Descriptors are folded where the marks would take more than `columns` of a terminal.
    """
    if isinstance(prediction, Failure):
        return
    first, *further = prediction.scores
    label = printable(prediction.label) if prediction.label is not None else UNSURE
    beside = f"  (name alone: {printable(prediction.baseline.name)})" if prediction.baseline else ""
    yield f"{first.probability:6.1%}  {label:<{width}}  {printable(prediction.image)}{beside}"
    for item in further:
        yield f"{item.probability:6.1%}  {printable(item.name)}"
    if prediction.explanation:
        yield from _explained(prediction.explanation, columns)


def _explained(explanation: Explanation, columns: int | None) -> Iterator[str]:
    """Yield the marks of both classes with bars from zero, then the pair that decided."""
    marks = (*explanation.predicted, *explanation.runner_up)
    width = max(columns_of(printable(mark.descriptor)) for mark in marks)
    full = BAR
    if columns is not None:
        width = min(width, max(columns - len(_MARK) - 10 - BAR, SHORTEST))
        full = max(columns - len(_MARK) - width - 11, 4)
    bars = _Bars(marks, min(full, BAR))
    unit = f"{'logit' if marks[0].z is None else 'z':>6}"
    for side, colour in ((explanation.predicted, LEAD), (explanation.runner_up, SECOND)):
        for name in folded(printable(side[0].name), width + 2)[: 1 if side else 0]:
            yield f"{_CLASS}{padded(name, width + 2)}  {unit}  {bars.axis}".rstrip()
        for mark in side:
            first, *further = folded(printable(mark.descriptor), width)
            yield f"{_MARK}{padded(first, width)}  {_number(mark)}  {bars.of(mark, colour)}"
            yield from (f"{_MARK}{text.strip()}" for text in further)
    if explanation.decided:
        lead, other = explanation.decided
        text = (
            f"decided: {printable(lead.descriptor)} {_number(lead).strip()}"
            f" against {printable(other.descriptor)} {_number(other).strip()}"
        )
        lines = [text] if columns is None else folded(text, columns - len(_MARK) - 1)
        yield style(f"{_CLASS}{lines[0]}", bold=True)
        yield from (style(f"{_MARK}{line.strip()}", bold=True) for line in lines[1:])


class _Bars:
    """Bars on one scale that begin at zero: to the right, and to the left for what is below."""

    def __init__(self, marks: Sequence[Mark], width: int) -> None:
        low, high = min(0.0, *(mark.strength for mark in marks)), max(mark.strength for mark in marks)
        self._scale = width / ((max(high, 0.0) - low) or 1.0)  # columns a unit
        self._left = round(-low * self._scale)
        self.axis = f"{'':{self._left}}0" if marks else ""

    def of(self, mark: Mark, colour: str) -> str:
        length = round(abs(mark.strength) * self._scale)
        if mark.strength < 0:
            return f"{'':{self._left - min(length, self._left)}}{style('█' * length, fg=colour)}"
        return f"{'':{self._left}}{style('█' * length, fg=colour)}"


def _number(mark: Mark) -> str:
    text = f"{mark.logit:6.1f}" if mark.z is None else f"{mark.z:+6.2f}"
    return text.replace("-", "\N{MINUS SIGN}")
