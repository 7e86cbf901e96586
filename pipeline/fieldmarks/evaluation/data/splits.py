"""Which part of a data set is meant: its test split, unless the user says otherwise."""

from collections.abc import Iterable
from typing import Final

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data.dataset import listed

_TEST: Final = ("test", "testing", "eval", "evaluation")
_VALIDATION: Final = ("validation", "val", "valid", "dev")
_TRAIN: Final = ("train", "training")
NAMES: Final = frozenset((*_TEST, *_VALIDATION, *_TRAIN))


def is_name(name: str) -> bool:
    """Whether a folder or part of this name is a split, in any case."""
    return name.casefold() in NAMES


def choose(available: Iterable[str], asked: str | None) -> str:
    """Return the split to read: the one asked for in any case, else test, else validation, else the only one.

    Raises EvaluationError, which lists the splits.
    """
    names = list(available)
    if asked is not None:
        alike = [name for name in names if name.casefold() == asked.casefold()]
        if asked in names or len(alike) == 1:
            return asked if asked in names else alike[0]
        raise EvaluationError(f"it has no split {asked!r}: there is {listed(names) or 'none'}")
    for wanted in (*_TEST, *_VALIDATION):
        if found := next((name for name in names if name.casefold() == wanted), None):
            return found
    if len(names) == 1:
        return names[0]
    raise EvaluationError(f"say which part is meant: --split, one of {listed(names)}")


def told(chosen: str, available: Iterable[str]) -> list[str]:
    """Return a notice of a split that was not asked for, where there are others."""
    others = [name for name in available if name != chosen]
    return [f"the split {chosen!r} is read; there is also {listed(others)}"] if others else []
