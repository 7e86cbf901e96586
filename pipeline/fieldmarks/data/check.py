"""What to know of a data set before it is scored: pictures of each class, and those that are there twice."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from fieldmarks.classification.sources import Blob, name_of, read_bytes
from fieldmarks.data.dataset import DataSet, Example, listed
from fieldmarks.data.labels import Matching
from fieldmarks.errors import ImageError
from fieldmarks.text import counted, cut, printable

SHOWN: Final = 10  # groups of equal pictures in the plain object
_WIDTH: Final = 60  # columns of a class's name in a table


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
    missing: tuple[str, ...] = ()  # images that are named and not there, or cannot be reached

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object; of the groups of equal pictures the first ones."""
        across = [one.to_dict() for one in self.equal if one.across]
        within = [one.to_dict() for one in self.equal if not one.across]
        return {
            "pictures": dict(self.pictures),
            "classes_without_pictures": list(self.without_pictures),
            "left_out": self.left_out,
            "failures": self.failures,
            "missing": {"images": len(self.missing), "first": list(self.missing[:SHOWN])},
            "equal_across_classes": {"groups": len(across), "first": across[:SHOWN]},
            "equal_within_a_class": {"groups": len(within), "first": within[:SHOWN]},
        }

    def notices(self) -> list[str]:
        """Return what the user should be told."""
        across = [one for one in self.equal if one.across]
        spare = sum(len(one.images) - 1 for one in self.equal if not one.across)
        told = []
        if self.missing:
            names = [printable(name) for name in self.missing]
            told.append(f"{counted(len(names), 'image')} missing: {listed(names, 3)}")
        if across:
            first, *others = zip(across[0].images, across[0].classes, strict=True)
            other = next(one for one in others if one[1] != first[1])
            told.append(
                f"pictures that lie in several classes, byte for byte: {len(across)}, such as {first[0]!r} in"
                f" {first[1]!r} and {other[0]!r} in {other[1]!r}"
            )
        if spare:
            told.append(f"pictures that repeat another of their class, byte for byte: {spare}")
        return [printable(one) for one in told]

    def rows(self, most: int = 12) -> list[tuple[str, str]]:
        """Return classes with their pictures, most pictures first, for a table of at most `most` + 1 rows.

        Of many classes the largest and the smallest are shown, those without pictures among these.
        """
        ordered = sorted(self.pictures.items(), key=lambda pair: -pair[1])
        ordered += [(name, 0) for name in self.without_pictures]
        rows = [(cut(printable(name), _WIDTH), str(count)) for name, count in ordered]
        if len(rows) <= most + 1:
            return rows
        start, end = most - most // 2, len(rows) - most // 2
        return [*rows[:start], (f"… {end - start} more", _range(ordered[start:end])), *rows[end:]]


class _Seen(NamedTuple):
    """A picture that was met, and its class."""

    image: str
    name: str


_Sized = dict[int | None, list[tuple[_Seen, str]]]  # pictures and their paths, by the files' sizes


def inspect(dataset: DataSet, matching: Matching) -> Preflight:
    """Count a data set's pictures and compare their bytes, of files only where sizes are equal.

    Memory holds the pictures' names and hashes, and one picture. What cannot be read is passed over here.
    """
    counts: Counter[str] = Counter()
    left_out = failures = 0
    sized: _Sized = {}
    hashed: dict[bytes, list[_Seen]] = {}
    missing: list[str] = []
    for number, one in enumerate(dataset, 1):
        if not isinstance(one, Example):
            failures += 1
        elif (name := matching.class_of.get(one.label)) is None:
            left_out += 1
        elif isinstance(one.picture, str) and _size(one.picture) is None:
            missing.append(name_of(one.picture, number))
        else:
            counts[name] += 1
            seen = _Seen(name_of(one.picture, number), name)
            if isinstance(one.picture, Blob):
                hashed.setdefault(_digest(one.picture.data), []).append(seen)
            elif isinstance(one.picture, str):
                sized.setdefault(_size(one.picture), []).append((seen, one.picture))
    _hash_files(sized, hashed)
    met = dict.fromkeys(matching.class_of.values())
    without = (*matching.unused_classes, *(name for name in met if name not in counts))
    return Preflight(
        dict(counts), without, tuple(_equal(hashed.values())), left_out, failures, tuple(missing)
    )


def tally(counts: Mapping[str, int], matching: Matching) -> Preflight:
    """Return what the numbers of pictures under each label say, where there are no pictures to compare."""
    pictures: Counter[str] = Counter()
    left_out = 0
    for label, count in counts.items():
        if label in matching.class_of:
            pictures[matching.class_of[label]] += count
        else:
            left_out += count
    return Preflight(dict(pictures), matching.unused_classes, left_out=left_out)


def _hash_files(sized: _Sized, hashed: dict[bytes, list[_Seen]]) -> None:
    for some in sized.values():
        for seen, path in some if len(some) > 1 else ():
            try:
                digest = _digest(read_bytes(Path(path)))
            except ImageError:  # its reading will tell
                continue
            hashed.setdefault(digest, []).append(seen)


def _equal(groups: Iterable[Sequence[_Seen]]) -> Iterable[Equal]:
    for group in groups:
        if len(group) > 1:
            yield Equal(tuple(one.image for one in group), tuple(one.name for one in group))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return None


def _range(pairs: Sequence[tuple[str, int]]) -> str:
    counts = [count for _, count in pairs]
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[-1]}–{counts[0]}"
