"""Data sets with a folder per class: the folders directly under the data set's folder name the classes.

    DATASET/CLASS/…/image.jpg            DATASET/SPLIT/CLASS/…/image.jpg          ARCHIVE/DATASET/…
                                         DATASET/CLASS/SPLIT/…/image.jpg

Inside a class's folder, images may be at any depth. If the subfolders are splits (train, val, test), each
with a folder per class, one of them is read. A folder that only wraps another is skipped.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import (
    SUFFIXES,
    FolderContents,
    find,
    is_helper,
    leads_into,
    name_of,
    suffix_of,
)
from fieldmarks.data import dataset
from fieldmarks.data.dataset import DatasetSpec, Example, Listed, listed, record, spread
from fieldmarks.errors import EvaluationError
from fieldmarks.text import counted

_MAX_WRAPPERS: Final = 8
_NUMBERED: Final = re.compile(r"(.*?[^\W\d_])[\s._-]*\(?\d+\)?", re.DOTALL)  # cat.1, cat_001, cat (1)


def open_folder(source: DatasetSpec) -> Listed:
    """List the images in a folder. Raises EvaluationError if there is no image in a class's folder."""
    top = _unwrapped(Path(source.name))
    folder, split, notices = _split(top, source.split)
    folder = folder if folder == top else _unwrapped(folder)
    if folder != Path(source.name, split or ""):
        notices = [f"reading {folder}: the folders above it contain nothing else", *notices]
    inner, split_notices = _inner_split(folder, source.split) if split is None else (None, [])
    notices += split_notices
    contents = FolderContents()
    records: list[Example | Failure] = []
    empty, links = [], []
    for place in _subfolders(folder):
        if place.is_symlink() and leads_into(str(place), os.path.realpath(folder)):
            links.append(place.name)
            continue
        images = _images(place / inner if inner else place, contents, place.name)
        records += images
        empty += [] if images else [place.name]
    loose = _loose(folder)
    if not records:
        raise EvaluationError(_no_classes(folder, loose, empty))
    if empty:
        notices.append(f"folders without images: {listed(empty)}")
    if links:
        notices.append(f"left out, because they link to folders of the data set: {listed(links)}")
    if loose:
        notices.append(f"left out, because they are in no class's folder: {listed(loose)}")
    contents.folders = [str(folder)]
    notices += [notice] if (notice := contents.notice()) else []
    notices += [] if inner else _deeper(folder)
    split = split or inner
    metadata: dict[str, Any] = {"spec": source.spec, "kind": "folder", "split": split, "limit": source.limit}
    metadata["pictures"] = len(records)
    metadata["fingerprint"] = _fingerprint(folder, records)
    return Listed(metadata, spread(records, source.limit), notices)


def _unwrapped(folder: Path) -> Path:
    """Return the data set's folder inside folders that only wrap it, as archives do, or the folder itself.

    A wrapper contains one folder and no image, and that folder contains folders but no image. A split is not
    a wrapped data set, unless it is in a folder of its own name.
    """
    for _ in range(_MAX_WRAPPERS):
        inner = _subfolders(folder)
        if len(inner) != 1 or _loose(folder) or _loose(inner[0]) or not _subfolders(inner[0]):
            break
        if dataset.is_split(inner[0].name) and inner[0].name.casefold() != folder.name.casefold():
            break
        folder = inner[0]
    return folder


def _split(folder: Path, asked: str | None) -> tuple[Path, str | None, list[str]]:
    """Return the folder that contains the classes' folders, the split that it is, if any, and notices.

    A split contains a folder per class and no image. Next to a split, a folder of images named like one is
    the unlabelled part that many competitions have. Raises EvaluationError if it is unclear whether a split
    is meant.
    """
    subfolders = _subfolders(folder)
    labelled = [place.name for place in subfolders if dataset.is_split(place.name) and _holds_folders(place)]
    if not labelled and (asked is None or _inner_parts(folder)):
        return folder, None, []
    flat = [place.name for place in subfolders if dataset.is_split(place.name) and place.name not in labelled]
    others = [place for place in subfolders if not dataset.is_split(place.name) and _has_images(place)]
    if asked is None and others:
        if len(labelled) == 1 and not flat and sum(bool(_loose(place)) for place in others) > 1:
            notice = f"{labelled[0]!r} is read as a class; pass --split {labelled[0]} if it is a split"
            return folder, None, [notice]
        beside = listed([place.name for place in others])
        raise EvaluationError(
            f"{folder} has the splits {listed(labelled + flat)} beside {beside}:"
            f" pass --split {labelled[0]}, or rename the folder if {labelled[0]!r} is a class"
        )
    names = [place.name for place in subfolders] if asked else labelled
    try:
        chosen = dataset.choose_split(names if asked in names else labelled, asked)
    except EvaluationError as error:
        raise EvaluationError(f"{folder}: {error}") from error
    notices = [] if asked else dataset.split_notice(chosen, labelled)
    if flat and not asked:
        notices.append(f"left out, because they have no folder per class: {listed(flat)}")
    return folder / chosen, chosen, notices


def _inner_parts(folder: Path) -> list[str]:
    """Return the splits in the classes' folders, if these contain nothing else."""
    classes = _subfolders(folder)
    parts = [[part.name for part in _subfolders(place)] for place in classes]
    if any(map(_loose, classes)) or not all(some and all(map(dataset.is_split, some)) for some in parts):
        return []
    return list(dict.fromkeys(name for some in parts for name in some))


def _inner_split(folder: Path, asked: str | None) -> tuple[str | None, list[str]]:
    """Return the split to read of CLASS/SPLIT/image.jpg, None if there are no splits, and notices.

    Raises EvaluationError if the split is missing or ambiguous.
    """
    names = _inner_parts(folder)
    if not names:
        return None, []
    try:
        chosen = dataset.choose_split(names, asked)
    except EvaluationError as error:
        raise EvaluationError(f"{folder}: {error}") from error
    return chosen, [] if asked else dataset.split_notice(chosen, names)


def _deeper(folder: Path) -> list[str]:
    """Return a notice if the folders may contain the classes' folders rather than be them."""
    tops = [place for place in _subfolders(folder) if _has_images(place)]
    below = [{part.name for part in _subfolders(place)} for place in tops]
    if not tops or len(below[0]) < 2 or any(some != below[0] for some in below) or any(map(_loose, tops)):
        return []
    return [
        f"read as classes: {listed([place.name for place in tops])}; if the classes are"
        f" {listed(sorted(below[0]), 3)}, pass {tops[0]}"
    ]


def _holds_folders(folder: Path) -> bool:
    return bool(_subfolders(folder)) and not _loose(folder)


def _has_images(folder: Path) -> bool:
    return any(isinstance(path, str) for path in find([str(folder)]))


def _images(folder: Path, contents: FolderContents, label: str) -> list[Example | Failure]:
    """Return the images of a class, and the failures of subfolders that cannot be read."""
    if not folder.is_dir():
        return []  # a class without this split
    paths = list(find([str(folder)], contents=contents))
    if [path.image for path in paths if isinstance(path, Failure)] == [str(folder)]:
        return []  # an empty class
    return [
        record(path, label, name_of(path, 0)) if isinstance(path, str) else path
        for path in paths
        if isinstance(path, str | Failure)
    ]


def _no_classes(folder: Path, loose: Sequence[str], empty: Sequence[str]) -> str:
    """Return why a folder is not a data set, and what to do."""
    expected = "expected DATASET/CLASS/image.jpg"
    if loose:
        matches = (_NUMBERED.fullmatch(Path(name).stem) for name in loose)
        classes = Counter(match[1] for match in matches if match)
        if len(classes) > 1 and min(classes.values()) > 1:
            label, file = next(iter(classes)), loose[0]
            return (
                f"{folder} has its images directly in it, apparently with classes in their names"
                f" ({listed(list(classes))}): move each class's images to a folder of its name, or list them"
                f" in a .csv with the lines image,label and {file},{label} and pass that"
            )
        return (
            f"{folder} has {counted(len(loose), 'image')} directly in it and none in folders of classes:"
            f" {expected}, or a .csv with the columns image and label"
        )
    named = f"; folders without images: {listed(empty)}" if empty else ""
    return f"{folder} has no images in folders of classes: {expected}{named}"


def _loose(folder: Path) -> list[str]:
    """Return the images directly in a folder, recognised by suffix."""
    return [name for name in _entries(folder) if suffix_of(name) in SUFFIXES and (folder / name).is_file()]


def _subfolders(folder: Path) -> list[Path]:
    return [folder / name for name in _entries(folder) if not is_helper(name) and (folder / name).is_dir()]


def _entries(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, without hidden ones. Raises EvaluationError."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be read: {error.strerror}") from error


def _fingerprint(folder: Path, records: Iterable[Example | Failure]) -> str:
    """Return a hash of the images' sizes and their paths relative to the folder."""
    digest = hashlib.sha256()
    for entry in records:
        if isinstance(entry, Example) and isinstance(entry.image, str):
            try:
                size = Path(entry.image).stat().st_size
            except OSError:  # reading it later reports the error
                size = -1
            name = os.path.relpath(entry.image, folder)
            digest.update(f"{size} {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
