"""Which part of a data set is meant: its test split, unless the user says otherwise."""

from collections.abc import Iterable
from typing import Final

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data.dataset import listed

_TEST: Final = ("test", "testing", "eval", "evaluation")
_VALIDATION: Final = ("validation", "val", "valid", "dev")
_TRAIN: Final = ("train", "training")
NAMES: Final = frozenset((*_TEST, *_VALIDATION, *_TRAIN))


def choose(available: Iterable[str], asked: str | None) -> str:
    """Return the split to read: the one asked for, else test, else validation, else the only one.

    Raises EvaluationError, which lists the splits.
    """
    names = list(available)
    if asked is not None:
        if same := next((name for name in (asked, *names) if name in names and _is(name, asked)), None):
            return same
        raise EvaluationError(f"it has no split {asked!r}: there is {listed(names) or 'none'}")
    for wanted in (*_TEST, *_VALIDATION):
        if found := next((name for name in names if name.casefold() == wanted), None):
            return found
    if len(names) == 1:
        return names[0]
    raise EvaluationError(f"say which part is meant: --split, one of {listed(names)}")


def _is(name: str, asked: str) -> bool:
    return name.casefold() == asked.casefold()


def told(chosen: str, available: Iterable[str]) -> list[str]:
    """Return a notice of a split that was not asked for, where there are others."""
    others = [name for name in available if name != chosen]
    return [f"the split {chosen!r} is read; there is also {listed(others)}"] if others else []
