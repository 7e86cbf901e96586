"""A folder per class: the class is the name of the folder directly under the data set's.

Inside a class's folder pictures may lie at any depth. Where the subfolders are splits (train, val, test),
each with a folder per class, one of them is read.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import SUFFIXES, find, name_of
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import splits
from fieldmarks.evaluation.data.dataset import Example, Listed, Source, listed, record, spread


def open_folder(source: Source) -> Listed:
    """Read the names in a folder. Raises EvaluationError where it has no picture in a class's folder."""
    folder, split, notices = _split(Path(source.spec), source.split)
    classes = _subfolders(folder)
    records: list[Example | Failure] = []
    empty = []
    for one in classes:
        found = _pictures(one)
        records += found
        empty += [] if found else [one.name]
    if not records:
        raise EvaluationError(
            f"{folder} has no pictures in folders of classes: DATASET/CLASS/PICTURE is meant"
        )
    if empty:
        notices.append(f"folders without pictures: {listed(empty)}")
    if loose := [entry for entry in _entries(folder) if Path(entry).suffix.lower() in SUFFIXES]:
        notices.append(f"left out, as they lie in no class's folder: {listed(loose)}")
    about: dict[str, Any] = {"spec": source.spec, "kind": "folder", "split": split, "limit": source.limit}
    about["pictures"] = len(records)
    about["fingerprint"] = _fingerprint(folder, records)
    return Listed(about, spread(records, source.limit), notices)


def _split(folder: Path, asked: str | None) -> tuple[Path, str | None, list[str]]:
    """Return the folder that holds the classes' folders, the split that it is, and what to tell."""
    names = [one.name for one in _subfolders(folder)]
    parts = bool(names) and all(_is_split(folder / name) for name in names)
    if asked is None and not parts:
        return folder, None, []
    try:
        chosen = splits.choose([name for name in names if name == asked or parts], asked)
    except EvaluationError as error:
        raise EvaluationError(f"{folder}: {error}") from error
    return folder / chosen, chosen, [] if asked else splits.told(chosen, names)


def _is_split(folder: Path) -> bool:
    """Whether a folder is one of train, val, test, and no class of such a name: it holds folders alone."""
    if folder.name.casefold() not in splits.NAMES or not _subfolders(folder):
        return False
    return not any(Path(entry).suffix.lower() in SUFFIXES for entry in _entries(folder))


def _pictures(folder: Path) -> list[Example | Failure]:
    paths = (path for path in find([str(folder)]) if isinstance(path, str))
    return [record(path, folder.name, name_of(path, 0)) for path in paths]


def _subfolders(folder: Path) -> list[Path]:
    return [folder / entry for entry in _entries(folder) if (folder / entry).is_dir()]


def _entries(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, but for hidden ones. Raises EvaluationError."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be read: {error.strerror}") from error


def _fingerprint(folder: Path, records: Iterable[Example | Failure]) -> str:
    """Return a hash of the pictures' names below the folder and of their sizes."""
    digest = hashlib.sha256()
    for one in records:
        if isinstance(one, Example) and isinstance(one.picture, str):
            try:
                size = Path(one.picture).stat().st_size
            except OSError:  # its reading will tell
                size = -1
            name = os.path.relpath(one.picture, folder)
            digest.update(f"{size} {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
