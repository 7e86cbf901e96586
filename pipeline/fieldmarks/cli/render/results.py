"""Results as a table for people; nothing is printed here.

Explanations carry colours, which `click.echo` takes away where it does not write to a terminal.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from click import style

from fieldmarks.classification.results import UNSURE, Explanation, Failure, Mark, Prediction
from fieldmarks.text import printable

BAR: Final = 24  # characters of the longest bar
LEAD: Final = "green"  # the bars of the predicted class
SECOND: Final = "yellow"  # the bars of the runner-up
OTHERS: Final = "blue"  # the bars of the classes after it
WIDEST_NAME: Final = 40


def table_width(classes: Sequence[str]) -> int:
    """Return the width of the column of labels, in characters."""
    return min(max(len(printable(name)) for name in (*classes, UNSURE)), WIDEST_NAME)


def table_rows(prediction: Prediction | Failure, width: int) -> Iterator[str]:
    """Yield an image's line, its class padded to `width`; then further classes, then marks."""
    if isinstance(prediction, Failure):
        return
    first, *further = prediction.scores
    label = printable(prediction.shown_label)
    beside = f"  (name alone: {printable(prediction.baseline.name)})" if prediction.baseline else ""
    yield f"{first.probability:6.1%}  {label:<{width}}  {printable(prediction.image)}{beside}"
    for item in further:
        yield f"{item.probability:6.1%}  {printable(item.name)}"
    if prediction.explanation:
        yield from _explained(prediction.explanation)


def _explained(explanation: Explanation) -> Iterator[str]:
    marks = [mark for own in explanation.by_class for mark in own]
    width = max(len(printable(mark.descriptor)) for mark in marks)
    low, high = min(mark.strength for mark in marks), max(mark.strength for mark in marks)
    for place, own in enumerate(explanation.by_class):
        colour = (LEAD, SECOND)[place] if place < 2 else OTHERS
        yield f"          {printable(own[0].name)}"
        for mark in own:
            share = (mark.strength - low) / (high - low) if high > low else 1.0
            bar = style("█" * round(1 + share * (BAR - 1)), fg=colour)
            yield f"{'':12}{printable(mark.descriptor):<{width}}  {_number(mark)}  {bar}"
    if explanation.decided:
        lead, other = explanation.decided
        yield style(
            f"          decided: {printable(lead.descriptor)} {_number(lead).strip()}"
            f" against {printable(other.descriptor)} {_number(other).strip()}",
            bold=True,
        )


def _number(mark: Mark) -> str:
    return f"{mark.logit:6.1f}" if mark.z is None else f"{mark.z:+6.2f}"
