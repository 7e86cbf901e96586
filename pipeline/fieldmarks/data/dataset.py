"""Labelled data sets: images with the names of their classes, in an order that never changes.

It also has what all kinds of data sets share: limits, columns, the choice of a split (test, unless the user
names another), and names that stand for several files, by a glob or a range such as data-{000..012}.tar.
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

# Names of image and label columns, used if nothing else identifies them; the usual name comes first.
IMAGE_NAMES: Final = ("image", "path", "file", "file_name", "filename", "image_path", "img")
LABEL_NAMES: Final = ("label", "class", "class_name", "category", "fine_label", "labels")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """An image and its label, in NFC and trimmed like class names."""

    image: ImageInput
    label: str


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Which labelled images to use, and how to read their labels.

    `spec` is a path or hf:NAME, or None if `embeddings` (files of image embeddings) have their own labels.
    With `limit`, at most that many images are used, spread evenly over the data set; of a stream, the first
    ones.
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
    """Images with labels; every pass yields the same ones in the same order."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is needed to read it again: spec, kind, split, columns, a fingerprint if it is cheap."""

    @property
    def notices(self) -> Sequence[str]:
        """Notices for the user."""

    @property
    def is_indexed(self) -> bool:
        """Whether `labels` reads no images; for other sources, it passes over all of them."""

    def labels(self) -> Counter[str]:
        """The number of images under each label, counted without decoding them. Raises EvaluationError."""

    def __iter__(self) -> Iterator[Example | Failure]: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A data set whose images are files on disk."""

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
    """Return an image with its label, or a failure if the label is missing or unusable."""
    if label is None or (isinstance(label, str) and not label.strip()):
        return Failure(name, "it has no label")
    if isinstance(label, bool) or not isinstance(label, str | int):
        return Failure(name, f"its label is a {type(label).__name__}: expected a string")
    try:
        return Example(image, class_name(str(label)))
    except ClassNameError as error:
        return Failure(name, f"its label cannot be used: {error}")


def taken(number: int, count: int, limit: int | None) -> bool:
    """Whether record `number` of `count`, from 0, is among the `limit` that are spread evenly over all."""
    return limit is None or (number + 1) * limit // count > number * limit // count


def spread(records: Sequence[T], limit: int | None) -> list[T]:
    """Return `limit` of the records, spread evenly and in order, or all of them if there are fewer."""
    some = None if limit is None or limit >= len(records) else limit
    return [entry for number, entry in enumerate(records) if taken(number, len(records), some)]


def choose_column(kind: str, named: str | None, candidates: Sequence[str], columns: Sequence[str]) -> str:
    """Return the column to use: the named one, else the only candidate.

    `kind` is "image" or "label", as in the option names. Raises EvaluationError, listing the columns.
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
    """Return the first names, quoted, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name if len(name) <= 80 else f"{name[:79]}…") for name in names[:most]) + more


_TEST: Final = ("test", "testing", "eval", "evaluation")
_VALIDATION: Final = ("validation", "val", "valid", "dev")
_TRAIN: Final = ("train", "training")
SPLITS: Final = frozenset((*_TEST, *_VALIDATION, *_TRAIN))


def is_split(name: str) -> bool:
    """Whether a folder or part with this name is a split, ignoring case."""
    return name.casefold() in SPLITS


def choose_split(available: Iterable[str], asked: str | None) -> str:
    """Return the split to read: the requested one in any case, else test, validation or the only one.

    Raises EvaluationError, listing the splits.
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
    """Return a notice about a split that was not requested, if there are others."""
    others = [name for name in available if name != chosen]
    return [f"using the split {chosen!r}; also available: {listed(others)}"] if others else []


MAX_SHARDS: Final = 100_000
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(spec: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a path, a glob, a range {000..012} or a folder stands for, in order.

    Of a folder, they are those with one of `suffixes`. Raises EvaluationError for a missing file.
    """
    names = [spec] if Path(spec).exists() else _braces(spec)
    if len(names) == 1 and Path(spec).is_dir():
        return sorted(path for path in Path(spec).iterdir() if path.name.lower().endswith(suffixes))
    paths = [Path(path) for name in names for path in ([name] if Path(name).exists() else _glob(name))]
    if absent := next((path for path in paths if not path.is_file()), None):
        raise EvaluationError(f"{absent}: no such file")
    return paths


def _glob(pattern: str) -> list[str]:
    paths = sorted(glob.glob(pattern))  # noqa: PTH207 - a pattern may be absolute
    return paths or [pattern]


def _braces(spec: str) -> list[str]:
    """Return the names that ranges like {000..012} stand for, in order."""
    match = _RANGE.search(spec)
    if not match:
        return [spec]
    first, last, width = int(match[1]), int(match[2]), len(match[1])
    if not 0 <= last - first < MAX_SHARDS:
        raise EvaluationError(f"{match[0]} in {spec!r} is not a range of at most {MAX_SHARDS} shards")
    starts = (f"{spec[: match.start()]}{number:0{width}}" for number in range(first, last + 1))
    return [start + rest for start in starts for rest in _braces(spec[match.end() :])]
