"""The words that options take, read by the command line and the library alike."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args

from fieldmarks.errors import UsageError

Aggregation = Literal["mean-embedding", "mean-unit-embedding", "mean-similarity", "max-similarity"]
Preset = Literal["article", "paper"]
Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["auto", "torch", "openvino"]
ArmName = Literal["name", "photo", "templates", "concept", "descriptors", "sentences", "waffle", "swapped"]

Word = TypeVar("Word", bound=str)


def words(kind: Any) -> tuple[Any, ...]:
    """Return the words of a choice, such as `Device`, in their order."""
    return get_args(kind)


def check_choice(option: str, value: object, kind: Any) -> None:
    """Raise UsageError unless a value is one of a choice's words; it names the nearest.

    >>> check_choice("device", "gpu", Device)
    Traceback (most recent call last):
    fieldmarks.errors.UsageError: device: expected auto, cpu, cuda or mps, found 'gpu'
    """
    expected = words(kind)
    if value not in expected:
        raise UsageError(f"{option}: expected {_listed(expected)}, found {value!r}{nearest(value, expected)}")


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise UsageError for the first name that is not known, with the nearest."""
    known = list(known)
    for name in given:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}{nearest(name, known)}; there is {_listed(known)}")


def nearest(value: object, known: Iterable[str]) -> str:
    """Return the question for the nearest known name, or "" if none is near."""
    near = get_close_matches(str(value), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listed(known: Iterable[str]) -> str:
    *others, last = known
    return f"{', '.join(others)} or {last}" if others else last
