"""The values that options accept, shared by the command line and the library."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import Any, Final, Literal, ParamSpec, TypeVar, get_args

from fieldmarks.errors import UsageError

Aggregation = Literal["mean-embedding", "mean-unit-embedding", "mean-similarity", "max-similarity"]
Preset = Literal["article", "paper"]
Device = str  # auto, cpu, mps, cuda, or a particular GPU such as cuda:1; see check_device
DType = Literal["auto", "float32", "bfloat16", "float16"]
Preference = Literal["a", "b", "newest", "union"]  # of two stores, if both have a class
Engine = Literal["auto", "torch", "openvino"]
ResultFormat = Literal["table", "jsonl", "csv", "parquet", "label-studio"]
SortAction = Literal["copy", "move", "link"]
Mode = Literal["auto", "completions", "continue", "prefix", "trailing", "instruct"]
ArmName = Literal[
    "name",
    "photo",
    "templates",
    "concept",
    "descriptors",
    "sentences",
    "waffle",
    "random-words",
    "swapped",
]

DEFAULT_CLIP: Final = "openai/clip-vit-base-patch32"
DEVICES: Final = ("auto", "cpu", "cuda", "mps")
_DEVICE: Final = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?", re.ASCII)
Word = TypeVar("Word", bound=str)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def words(kind: Any) -> tuple[Any, ...]:
    """Return the words of a choice, such as `Preset`, in order."""
    return get_args(kind)


def check_choice(option: str, value: object, kind: Any) -> None:
    """Raise UsageError, suggesting the nearest word, unless a value is one of a choice's words.

    >>> check_choice("preset", "artcle", Preset)
    Traceback (most recent call last):
    fieldmarks.errors.UsageError: preset: expected article or paper, found 'artcle' (did you mean 'article'?)
    """
    expected = words(kind)
    if value not in expected:
        raise UsageError(f"{option}: expected {_listed(expected)}, found {value!r}{nearest(value, expected)}")


def check_device(value: object) -> None:
    """Raise UsageError unless a value names a device.

    >>> check_device("cuda:1")
    >>> check_device("tpu0")
    Traceback (most recent call last):
    fieldmarks.errors.UsageError: device: expected auto, cpu, cuda, cuda:N or mps, found 'tpu0'
    """
    if not (isinstance(value, str) and _DEVICE.fullmatch(value)):
        hint = nearest(value, DEVICES)
        raise UsageError(f"device: expected auto, cpu, cuda, cuda:N or mps, found {value!r}{hint}")


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise UsageError for the first unknown name, suggesting the nearest."""
    known = list(known)
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}{nearest(name, known)}: expected {_listed(known)}")


def checks_keywords(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a function raise UsageError, suggesting the nearest, for an unknown keyword, not TypeError."""
    known = [name for name in signature(function).parameters if name not in ("self", "cls")]

    @wraps(function)
    def checked(*args: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        check_names(keywords, known, "option")
        return function(*args, **keywords)

    return checked


def nearest(value: object, known: Iterable[str]) -> str:
    """Return a "did you mean" question for the nearest known name, or "" if none is near."""
    near = get_close_matches(str(value), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listed(known: Iterable[str]) -> str:
    *others, last = known
    return f"{', '.join(others)} or {last}" if others else last
