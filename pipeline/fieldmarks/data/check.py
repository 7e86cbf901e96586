"""Checks a data set before it is scored: images per class, and duplicates."""

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.sources import Blob, name_of, read_bytes
from fieldmarks.data.dataset import DataSet, Example, listed
from fieldmarks.data.labels import Matching
from fieldmarks.errors import ImageError
from fieldmarks.text import counted, cut, printable

SHOWN: Final = 10  # groups of duplicates in the JSON object
_WIDTH: Final = 60  # terminal columns for a class name in a table


@dataclass(frozen=True, slots=True)
class Equal:
    """Duplicate images (equal bytes), and their classes in the same order."""

    images: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def across(self) -> bool:
        """Whether they are in different classes, so that at least one of them is mislabelled."""
        return len(set(self.classes)) > 1

    def to_dict(self) -> dict[str, Any]:
        """Return the group as a JSON object."""
        return {"images": list(self.images), "classes": list(self.classes)}


@dataclass(frozen=True, slots=True)
class Preflight:
    """The number of images of each class, in the order of the data set, and the duplicates."""

    images: Mapping[str, int]
    without_images: tuple[str, ...] = ()
    equal: tuple[Equal, ...] = ()
    left_out: int = 0  # images whose label has no class
    failures: int = 0  # such as images without a usable label
    missing: tuple[str, ...] = ()  # images that are named but missing or unreachable

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object, with the first groups of duplicates."""
        across = [group.to_dict() for group in self.equal if group.across]
        within = [group.to_dict() for group in self.equal if not group.across]
        return {
            "images": dict(self.images),
            "classes_without_images": list(self.without_images),
            "left_out": self.left_out,
            "failures": self.failures,
            "missing": {"images": len(self.missing), "first": list(self.missing[:SHOWN])},
            "equal_across_classes": {"groups": len(across), "first": across[:SHOWN]},
            "equal_within_a_class": {"groups": len(within), "first": within[:SHOWN]},
        }

    def notices(self) -> list[str]:
        """Return the notices for the user."""
        names = [printable(name) for name in self.missing]
        missing = [f"{counted(len(names), 'image')} missing: {listed(names, 3)}"] if names else []
        return missing + repeated(self.equal)

    def rows(self, most: int = 12) -> list[tuple[str, str]]:
        """Return classes with their image counts, largest first, for a table of at most `most` + 1 rows.

        Of many classes, the largest and the smallest are shown; those without images count as the smallest.
        """
        ordered = sorted(self.images.items(), key=lambda pair: -pair[1])
        ordered += [(name, 0) for name in self.without_images]
        rows = [(cut(printable(name), _WIDTH), f"{count:,}") for name, count in ordered]
        if len(rows) <= most + 1:
            return rows
        start, end = most - most // 2, len(rows) - most // 2
        return [*rows[:start], (f"… {end - start:,} more", _range(ordered[start:end])), *rows[end:]]


def equal_images(images: Iterable[tuple[str, str, Hashable]]) -> tuple[Equal, ...]:
    """Return the groups of images, passed with their class and digest, that share a digest."""
    groups: dict[Hashable, list[tuple[str, str]]] = {}
    for image, name, digest in images:
        groups.setdefault(digest, []).append((image, name))
    return tuple(Equal(*map(tuple, zip(*group, strict=True))) for group in groups.values() if len(group) > 1)


def repeated(equal: Sequence[Equal]) -> list[str]:
    """Return the notices about duplicate images."""
    across = [group for group in equal if group.across]
    within = [group for group in equal if not group.across]
    spare = sum(len(group.images) - 1 for group in within)
    notices = []
    if across:
        pair, *others = zip(across[0].images, across[0].classes, strict=True)
        apart = next(item for item in others if item[1] != pair[1])
        notices.append(
            f"images that lie in several classes, byte for byte: {len(across):,}, such as {pair[0]!r} in"
            f" {pair[1]!r} and {apart[0]!r} in {apart[1]!r}"
        )
    if spare:
        first, other = within[0].images[:2]
        notices.append(
            f"images that repeat another of their class, byte for byte: {spare:,}, such as {other!r}, which"
            f" repeats {first!r}"
        )
    return [printable(notice) for notice in notices]


def inspect(dataset: DataSet, match: Callable[[Mapping[str, int]], Matching]) -> Preflight:
    """Count a data set's images in one pass and compare their bytes, those of files only if sizes are equal.

    `match` is called once, with the number of images under each label, and says which class each label stands
    for. Memory holds the images' names and hashes, and one image. Unreadable images are skipped here.
    """
    labels: Counter[str] = Counter()
    failures = 0
    blobs: list[tuple[str, str, bytes]] = []  # images with their labels and digests
    files: dict[int, list[tuple[str, str, str]]] = {}  # images with their labels and paths, by size
    missing: list[tuple[str, str]] = []
    for number, example in enumerate(dataset, 1):
        if not isinstance(example, Example):
            failures += 1
            continue
        labels[example.label] += 1
        name = name_of(example.image, number)
        if isinstance(example.image, Blob):
            blobs.append((name, example.label, _digest(example.image.data)))
        elif isinstance(example.image, str):
            size = _size(example.image)
            if size is None:
                missing.append((name, example.label))
            else:
                files.setdefault(size, []).append((name, example.label, example.image))
    matching = match(labels)
    classes = matching.class_of
    equal = equal_images(
        (image, classes[label], digest)
        for image, label, digest in (*blobs, *_hashed(files, classes))
        if label in classes
    )
    absent = Counter(label for _, label in missing)
    images = tally(labels - absent, matching)
    none_there = [name for name in dict.fromkeys(classes.values()) if name not in images.images]
    without = (*matching.unused_classes, *none_there)
    gone = tuple(name for name, label in missing if label in classes)
    left_out = sum(count for label, count in labels.items() if label not in classes)
    return Preflight(images.images, without, equal, left_out, failures, gone)


def tally(counts: Mapping[str, int], matching: Matching) -> Preflight:
    """Return the result from the number of images under each label, without images to compare."""
    images: Counter[str] = Counter()
    left_out = 0
    for label, count in counts.items():
        if label in matching.class_of:
            images[matching.class_of[label]] += count
        else:
            left_out += count
    return Preflight(dict(images), matching.unused_classes, left_out=left_out)


def _hashed(
    files: Mapping[int, Sequence[tuple[str, str, str]]], classes: Mapping[str, str]
) -> Iterable[tuple[str, str, bytes]]:
    """Yield the images that have a class and the size of another such image, with labels and digests."""
    for group in files.values():
        of_classes = [file for file in group if file[1] in classes]
        for image, label, path in of_classes if len(of_classes) > 1 else ():
            try:
                yield image, label, _digest(read_bytes(Path(path)))
            except ImageError:  # reading it later reports the error
                continue


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
