"""What to know of a data set before it is scored: pictures of each class, and those that are there twice."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.sources import Blob, name_of, read_bytes
from fieldmarks.errors import ImageError
from fieldmarks.evaluation.data.dataset import DataSet, Example
from fieldmarks.evaluation.data.labels import Matching
from fieldmarks.wording import printable

SHOWN: Final = 10  # groups of equal pictures in the plain object
_WIDTH: Final = 60  # characters of a class's name in a table


@dataclass(frozen=True, slots=True)
class Equal:
    """Pictures of equal bytes, and their classes in step."""

    images: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def across(self) -> bool:
        """Whether they lie in different classes, so that one of them is wrongly labelled."""
        return len(set(self.classes)) > 1

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"images": list(self.images), "classes": list(self.classes)}


@dataclass(frozen=True, slots=True)
class Preflight:
    """How many pictures each class has, in the order of the data set, and which are there more than once."""

    pictures: Mapping[str, int]
    without_pictures: tuple[str, ...] = ()
    equal: tuple[Equal, ...] = ()
    left_out: int = 0  # pictures whose label has no class
    failures: int = 0  # pictures without a usable label, and such

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object; of the groups of equal pictures the first ones."""
        across = [one.to_dict() for one in self.equal if one.across]
        within = [one.to_dict() for one in self.equal if not one.across]
        return {
            "pictures": dict(self.pictures),
            "classes_without_pictures": list(self.without_pictures),
            "left_out": self.left_out,
            "failures": self.failures,
            "equal_across_classes": {"groups": len(across), "first": across[:SHOWN]},
            "equal_within_a_class": {"groups": len(within), "first": within[:SHOWN]},
        }

    def notices(self) -> list[str]:
        """Return what the user should be told."""
        across = [one for one in self.equal if one.across]
        spare = sum(len(one.images) - 1 for one in self.equal if not one.across)
        told = []
        if across:
            one = across[0]
            told.append(
                f"{len(across)} pictures lie in more than one class, byte for byte: {one.images[0]!r}"
                f" ({one.classes[0]}) is {one.images[-1]!r} ({one.classes[-1]}) too"
            )
        if spare:
            told.append(f"{spare} pictures repeat another of their class, byte for byte")
        return [printable(one) for one in told]

    def rows(self, most: int = 12) -> list[tuple[str, str]]:
        """Return classes with their pictures, most pictures first, for a table of at most `most` + 1 rows.

        Of many classes the largest and the smallest are shown, those without pictures among these.
        """
        counts = Counter(self.pictures) | Counter()
        ordered = sorted(counts.items(), key=lambda pair: -pair[1])
        ordered += [(name, 0) for name in self.without_pictures]
        rows = [(_short(name), str(count)) for name, count in ordered]
        if len(rows) <= most + 1:
            return rows
        start, end = most - most // 2, len(rows) - most // 2
        return [*rows[:start], (f"… {end - start} more", _range(ordered[start:end])), *rows[end:]]


def inspect(dataset: DataSet, matching: Matching) -> Preflight:
    """Count a data set's pictures and compare their bytes, of files only where sizes are equal.

    Memory holds the pictures' names and hashes, and one picture. What cannot be read is passed over here.
    """
    counts: Counter[str] = Counter()
    left_out = failures = 0
    sized: dict[int, list[_Seen]] = {}
    hashed: dict[bytes, list[_Seen]] = {}
    for number, one in enumerate(dataset, 1):
        if not isinstance(one, Example):
            failures += 1
        elif (name := matching.class_of.get(one.label)) is None:
            left_out += 1
        else:
            counts[name] += 1
            seen = _Seen(name_of(one.picture, number), name)
            if isinstance(one.picture, Blob):
                hashed.setdefault(_digest(one.picture.data), []).append(seen)
            elif isinstance(one.picture, str | os.PathLike):
                path = Path(one.picture)
                sized.setdefault(_size(path), []).append(_Seen(seen.image, name, path))
    _hash_files(sized, hashed)
    without = tuple(name for name in matching.unused_classes)
    without += tuple(name for name in dict.fromkeys(matching.class_of.values()) if name not in counts)
    return Preflight(dict(counts), without, tuple(_equal(hashed.values())), left_out, failures)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture that was met, and its file if it is one."""

    image: str
    name: str
    path: Path | None = None


def _hash_files(sized: Mapping[int, Sequence[_Seen]], hashed: dict[bytes, list[_Seen]]) -> None:
    for size, some in sized.items():
        for seen in some if len(some) > 1 and size >= 0 else ():
            try:
                digest = _digest(read_bytes(seen.path or Path(seen.image)))
            except ImageError:  # its reading will tell
                continue
            hashed.setdefault(digest, []).append(seen)


def _equal(groups: Iterable[Sequence[_Seen]]) -> Iterable[Equal]:
    for group in groups:
        if len(group) > 1:
            yield Equal(tuple(one.image for one in group), tuple(one.name for one in group))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _WIDTH else f"{name[: _WIDTH - 1]}…"


def _range(pairs: Sequence[tuple[str, int]]) -> str:
    counts = [count for _, count in pairs]
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[-1]}–{counts[0]}"
