"""Results as a table for people; nothing is printed here.

Explanations have colours, which `click.echo` removes unless it writes to a terminal.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from click import style

from fieldmarks.classification.results import UNSURE, Explanation, Failure, Mark, Prediction
from fieldmarks.text import columns as columns_of
from fieldmarks.text import folded, padded, printable

BAR: Final = 24  # characters of the longest bar
LEAD: Final = "green"  # the bars of the predicted class
SECOND: Final = "yellow"  # the bars of the runner-up
OTHERS: Final = "blue"  # the bars of the classes after it
WIDEST_NAME: Final = 40
OFFSET: Final = "(class offset)"  # of a learned classifier
SHORTEST: Final = 16  # columns for descriptors, at least
_CLASS: Final = " " * 10
_MARK: Final = " " * 12


def table_width(classes: Sequence[str]) -> int:
    """Return the width of the column of labels, in characters."""
    return min(max(len(printable(name)) for name in (*classes, UNSURE)), WIDEST_NAME)


def table_rows(prediction: Prediction | Failure, width: int, columns: int | None = None) -> Iterator[str]:
    """Yield an image's line, its class padded to `width`; then further classes, then marks.

    Descriptors are folded if the marks would be wider than a terminal's `columns`.
    """
    if isinstance(prediction, Failure):
        return
    further = prediction.scores[0 if prediction.parent else 1 :]
    further = further if len(prediction.scores) > 1 else ()
    label = printable(prediction.shown_label)
    beside = f"  (name alone: {printable(prediction.baseline.name)})" if prediction.baseline else ""
    share = f"{prediction.best.probability:6.1%}"
    if prediction.is_doubted:  # the share belongs to a class that is not the label
        beside = f"  (best: {printable(prediction.best.name)}, {share.strip()}){beside}"
        share = f"{'':6}"
    yield f"{share}  {label:<{width}}  {printable(prediction.image)}{beside}"
    for item in further:
        yield f"{item.probability:6.1%}  {printable(item.name)}"
    if prediction.reason:
        yield f"{_CLASS}{printable(prediction.reason)}"
    if prediction.labels is not None:
        verb = "would be one of" if prediction.reason else "one of"
        yield f"{_CLASS}{verb}: {printable(', '.join(prediction.labels)) or 'none'}"
    if prediction.explanation:
        yield from _explained(prediction.explanation, columns)


def _explained(explanation: Explanation, columns: int | None) -> Iterator[str]:
    """Yield the marks of each class with bars from zero, then the pair that decided."""
    marks = [mark for own in explanation.by_class for mark in own]
    width = max(columns_of(_text(mark)) for mark in marks)
    full, weights = BAR, max(len(_weight(mark)) for mark in marks)
    if columns is not None:
        width = min(width, max(columns - len(_MARK) - weights - 10 - BAR, SHORTEST))
        full = max(columns - len(_MARK) - weights - width - 11, 4)
    bars = _Bars(marks, min(full, BAR))
    unit = f"{'logit' if marks[0].z is None else 'z':>6}"
    for place, (own, offset) in enumerate(zip_longest(explanation.by_class, explanation.offsets)):
        colour = (LEAD, SECOND)[place] if place < 2 else OTHERS
        name = folded(printable(own[0].name), width + 2)[0]
        yield f"{_CLASS}{padded(name, width + 2)}  {unit}  {'':{weights}}{bars.axis}".rstrip()
        for mark in own:
            first, *further = folded(_text(mark), width)
            yield f"{_MARK}{padded(first, width)}  {_number(mark)}  {_weight(mark)}{bars.of(mark, colour)}"
            yield from (f"{_MARK}{text.strip()}" for text in further)
        if offset is not None:
            yield f"{_MARK}{padded(OFFSET, width)}  {_signed(f'{offset:6.1f}')}"
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
    """Bars from zero on one scale: to the right, or to the left if they are negative."""

    def __init__(self, marks: Sequence[Mark], width: int) -> None:
        low, high = min(0.0, *(mark.strength for mark in marks)), max(mark.strength for mark in marks)
        self._scale = width / ((max(high, 0.0) - low) or 1.0)  # columns per unit
        self._left = round(-low * self._scale)
        self.axis = f"{'':{self._left}}0" if marks else ""

    def of(self, mark: Mark, colour: str) -> str:
        length = round(abs(mark.strength) * self._scale)
        if mark.strength < 0:
            return f"{'':{self._left - min(length, self._left)}}{style('█' * length, fg=colour)}"
        return f"{'':{self._left}}{style('█' * length, fg=colour)}"


def _text(mark: Mark) -> str:
    """Return a mark's descriptor, with the class that it comes from if that is a different one."""
    return printable(mark.descriptor if mark.source is None else f"{mark.descriptor} [{mark.source}]")


def _number(mark: Mark) -> str:
    """Return a mark's number: its z-score, else its contribution to the logit if learned, else its score."""
    if mark.z is not None:
        return _signed(f"{mark.z:+z6.2f}")
    return _signed(f"{mark.logit if mark.contribution is None else mark.contribution:z6.1f}")


def _weight(mark: Mark) -> str:
    """Return a mark's learned weight, as a multiple of the uniform one."""
    return "" if mark.weight is None else f"{_signed(f'×{mark.weight:z.1f}'):>5}  "


def _signed(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")
