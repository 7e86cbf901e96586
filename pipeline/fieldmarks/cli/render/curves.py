"""Learning curves as lines of at most 80 columns: a row for each curve, a column for each number of shots."""

from collections.abc import Iterator
from typing import Final

from fieldmarks.cli.render.evaluation import wrapped
from fieldmarks.learning.curves import LearningCurves
from fieldmarks.text import counted

_NAME: Final = 15
_CELL: Final = 20
_COLUMNS: Final = 3  # numbers of shots per table; more get another table


def lines(result: LearningCurves) -> Iterator[str]:
    """Yield the curves as tables, the conclusions, and what each curve is."""
    yield from wrapped(
        f"Accuracy in % by labelled images of each class, mean of {counted(result.draws, 'draw')}"
        f", 95% CI in brackets, on {counted(result.tested, 'image')} that were not learned from"
    )
    for at in range(0, len(result.shots), _COLUMNS):
        part = slice(at, at + _COLUMNS)
        yield ""
        yield _row("shots", [f"{shots:,}" for shots in result.shots[part]])
        for curve in result.curves:
            rows = (100 * figures[part] for figures in (curve.mean, curve.low, curve.high))
            figures = zip(*(row.tolist() for row in rows), strict=True)
            yield _row(curve.name, [f"{mean:.1f} ({low:.1f}–{high:.1f})" for mean, low, high in figures])
    yield ""
    for sentence in result.summary:
        yield from wrapped(sentence)
    yield ""
    for curve in result.curves:
        role = "" if curve.role == "learned" else f"{curve.role}: "
        yield f"{curve.name:{_NAME}}{role}{curve.about}"


def _row(name: str, cells: list[str]) -> str:
    return f"{name:{_NAME}}{''.join(f'{cell:>{_CELL}}' for cell in cells)}".rstrip()
