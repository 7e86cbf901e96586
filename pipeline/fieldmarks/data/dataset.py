"""A labelled data set: images with the names of their classes, in an order that never changes.

Beside it what all kinds of data sets share: limits, columns, which split is read (test, unless the user names
another), and several files under one name, by a glob or a range such as data-{000..012}.tar.
"""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import ImageInput
from fieldmarks.errors import ClassNameError, EvaluationError
from fieldmarks.records import class_name

# How a column of images or of labels may be called where nothing else tells, the usual name first.
IMAGE_NAMES: Final = ("image", "path", "file", "file_name", "filename", "image_path", "img")
LABEL_NAMES: Final = ("label", "class", "class_name", "category", "fine_label", "labels")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """An image and its label, which is NFC and trimmed as class names are."""

    image: ImageInput
    label: str


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Which labelled images to use, and how to read their labels.

    `spec` is a path or hf:NAME; None with `embeddings`, image embeddings in files, that bring labels of their
    own. `limit` takes that many images, evenly spread over the whole; of a stream, the first ones.
    """

    spec: str | None
    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    limit: int | None = None
    streaming: bool = False
    embeddings: Path | None = None
    aliases: Path | None = None
    allow_missing: bool = False

    @property
    def name(self) -> str:
        """The path or hf:NAME, for messages; empty without a data set."""
        return self.spec or ""


class DataSet(Protocol):
    """Images with labels; every pass over it yields the same in the same order."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is needed to read it again: spec, kind, split, columns, a fingerprint where it is cheap."""

    @property
    def notices(self) -> Sequence[str]:
        """Notices for the user."""

    @property
    def is_indexed(self) -> bool:
        """Whether `labels` reads no image; of other sources it is a pass over all of them."""

    def labels(self) -> Counter[str]:
        """The number of images under each label, counted without decoding any. Raises EvaluationError."""

    def __iter__(self) -> Iterator[Example | Failure]: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A data set whose images are files on this disk."""

    metadata: Mapping[str, Any]
    records: Sequence[Example | Failure]
    notices: Sequence[str] = field(default_factory=tuple)
    is_indexed: bool = True

    def labels(self) -> Counter[str]:
        """The number of images under each label."""
        return Counter(entry.label for entry in self.records if isinstance(entry, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        return iter(self.records)


def record(image: ImageInput, label: object, name: str) -> Example | Failure:
    """Return an image with its label, or the failure of an image whose label is missing or unusable."""
    if label is None or (isinstance(label, str) and not label.strip()):
        return Failure(name, "it has no label")
    if isinstance(label, bool) or not isinstance(label, str | int):
        return Failure(name, f"its label is a {type(label).__name__}: expected a string")
    try:
        return Example(image, class_name(str(label)))
    except ClassNameError as error:
        return Failure(name, f"its label cannot be used: {error}")


def taken(number: int, count: int, limit: int | None) -> bool:
    """Whether record `number` of `count`, from 0, is among `limit` that are evenly spread over all."""
    return limit is None or (number + 1) * limit // count > number * limit // count


def spread(records: Sequence[T], limit: int | None) -> list[T]:
    """Return `limit` of some records, evenly spread, in their order; all of them if there are fewer."""
    some = None if limit is None or limit >= len(records) else limit
    return [entry for number, entry in enumerate(records) if taken(number, len(records), some)]


def choose_column(kind: str, named: str | None, candidates: Sequence[str], columns: Sequence[str]) -> str:
    """Return the column to use: the one named, else the only candidate.

    `kind` is "image" or "label", as in the options' names. Raises EvaluationError, which lists the columns.
    """
    option = f"--{kind}-column"
    if named is not None:
        if named not in columns:
            raise EvaluationError(f"it has no column {named!r}: pass {option} with one of {listed(columns)}")
        return named
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise EvaluationError(
            f"several columns could be the {kind}: pass {option} with one of {listed(candidates)}"
        )
    raise EvaluationError(f"no {kind} column recognised: pass {option} with one of {listed(columns)}")


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the first names of some, quoted, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name if len(name) <= 80 else f"{name[:79]}…") for name in names[:most]) + more


_TEST: Final = ("test", "testing", "eval", "evaluation")
_VALIDATION: Final = ("validation", "val", "valid", "dev")
_TRAIN: Final = ("train", "training")
SPLITS: Final = frozenset((*_TEST, *_VALIDATION, *_TRAIN))


def is_split(name: str) -> bool:
    """Whether a folder or part of this name is a split, in any case."""
    return name.casefold() in SPLITS


def choose_split(available: Iterable[str], asked: str | None) -> str:
    """Return the split to read: the one asked for in any case, else test, else validation, else the only one.

    Raises EvaluationError, which lists the splits.
    """
    names = list(available)
    if asked is not None:
        similar = [name for name in names if name.casefold() == asked.casefold()]
        if asked in names or len(similar) == 1:
            return asked if asked in names else similar[0]
        raise EvaluationError(
            f"it has no split {asked!r}: expected one of {listed(names)}" if names else "it has no splits"
        )
    for wanted in (*_TEST, *_VALIDATION):
        if split := next((name for name in names if name.casefold() == wanted), None):
            return split
    if len(names) == 1:
        return names[0]
    raise EvaluationError(f"several splits: pass --split with one of {listed(names)}")


def split_notice(chosen: str, available: Iterable[str]) -> list[str]:
    """Return a notice of a split that was not asked for, where there are others."""
    others = [name for name in available if name != chosen]
    return [f"using the split {chosen!r}; also available: {listed(others)}"] if others else []


MAX_SHARDS: Final = 100_000
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(spec: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a path, a glob, a range {000..012} or a folder means, in their order.

    Of a folder they are those with one of `suffixes`. Raises EvaluationError for one that is not there.
    """
    names = [spec] if Path(spec).exists() else braces(spec)
    if len(names) == 1 and Path(spec).is_dir():
        return sorted(path for path in Path(spec).iterdir() if path.name.lower().endswith(suffixes))
    paths = [Path(path) for name in names for path in ([name] if Path(name).exists() else _glob(name))]
    if absent := next((path for path in paths if not path.is_file()), None):
        raise EvaluationError(f"{absent}: no such file")
    return paths


def _glob(pattern: str) -> list[str]:
    paths = sorted(glob.glob(pattern))  # noqa: PTH207 - a pattern may be absolute
    return paths or [pattern]


def braces(spec: str) -> list[str]:
    """Return the names that ranges like {000..012} stand for, in their order."""
    match = _RANGE.search(spec)
    if not match:
        return [spec]
    first, last, width = int(match[1]), int(match[2]), len(match[1])
    if not 0 <= last - first < MAX_SHARDS:
        raise EvaluationError(f"{match[0]} in {spec!r} is not a range of at most {MAX_SHARDS} shards")
    starts = (f"{spec[: match.start()]}{number:0{width}}" for number in range(first, last + 1))
    return [start + rest for start in starts for rest in braces(spec[match.end() :])]
