"""Takes back what sorting did to a folder, step by step from its undo list (see sorting.py for the layout).

    for undone in unsort(Path("sorted")):
        print(undone)

Nothing is overwritten, and nothing is removed but what is surely elsewhere too: a copy whose original is
where it was, with the same content, and a link that leads where it led. A moved image returns only to a place
that is free. What cannot be taken back stays, with its line in the list, so that the same call tries again;
lines that were taken back before, as in a run that was killed, are passed over.
"""

import filecmp
import json
import os
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from fieldmarks.choices import SortAction, words
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sorting import (
    HEADING,
    METADATA,
    UNDO_LIST,
    lock_list,
    move_file,
    read_metadata,
)
from fieldmarks.errors import ReportError, StoreError
from fieldmarks.paths import open_regular
from fieldmarks.store import durable
from fieldmarks.tables.writing import csv_text

_DRAFT: Final = re.compile(r"\.[0-9a-f]{16}\.tmp")  # what a copy that was killed leaves


@dataclass(frozen=True, slots=True)
class Undone:
    """A step that is taken back. With `is_gone` there was nothing left to do: the file is not there."""

    action: SortAction
    source: str  # where the image came from
    target: Path  # where it was sorted to
    is_gone: bool = False


def count_steps(folder: Path) -> int:
    """Return how many steps the list has. Raises ReportError, as `unsort` does."""
    with closing(_open(folder)) as file:
        return len(_steps(folder, file.readlines()))


def unsort(folder: Path, *, dry_run: bool = False) -> Generator[Undone | Failure, None, None]:
    """Take the steps back, the last one first, and yield each, or a Failure that says why it stays.

    With `dry_run` nothing is changed. Raises ReportError, before anything is changed, for a folder without a
    list, a list that is not of sorting or is about another folder, and a folder in use.
    """
    with closing(_open(folder)) as file:
        lock_list(folder, file)
        lines = file.readlines()
        steps = _steps(folder, lines)
        left = dict(enumerate(lines[: len(steps)]))
        folders: set[Path] = set()
        try:
            for number in reversed(range(len(steps))):
                undone = _take_back(steps[number], dry_run=dry_run)
                if isinstance(undone, Undone):
                    folders.add(undone.target.parent)
                    del left[number]
                yield undone
        finally:
            if not dry_run:
                _tidy(folder, [left[number] for number in sorted(left)], folders)


def _open(folder: Path) -> IO[bytes]:
    path = folder / UNDO_LIST
    try:
        return os.fdopen(open_regular(path), "rb")
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise ReportError(f"{folder}: no such folder, or all of it was undone") from error
        reason = "nothing was sorted into it, or all of that was undone"
        raise ReportError(f"{folder} has no {UNDO_LIST}: {reason}") from error
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error


def _steps(folder: Path, lines: Sequence[bytes]) -> list[Undone]:
    """Return the steps of a list's lines. A torn last line is of a step that was not taken."""
    if lines and not lines[-1].endswith(b"\n"):
        lines = lines[:-1]
    real = os.path.realpath(folder)
    steps = []
    for number, line in enumerate(lines, 1):
        where = f"{folder / UNDO_LIST}, line {number}"
        try:
            action, source, target = (json.loads(line)[key] for key in ("action", "from", "to"))
            if action not in words(SortAction) or not source.startswith("/") or "\0" in source + target:
                raise ValueError
            there = Path(target)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ReportError(f"{where}: not a step of sorting: nothing was undone") from error
        if there.name in {"", ".."} or os.path.realpath(there.parent.parent) != real:
            remedy = "if the folder was renamed or moved, put it back first"
            raise ReportError(f"{where}: {target} is not in {folder}: nothing was undone; {remedy}")
        if os.path.dirname(os.path.realpath(there.parent)) != real:  # noqa: PTH120
            raise ReportError(f"{where}: {there.parent} leads out of {folder}: nothing was undone")
        steps.append(Undone(action, source, there))
    return steps


def _take_back(step: Undone, *, dry_run: bool) -> Undone | Failure:
    source, target = step.source, step.target
    if not os.path.lexists(target):
        if step.action == "move" and not os.path.lexists(source):
            return Failure(str(target), f"is no longer there, nor is {source}")
        return replace(step, is_gone=True)
    goes_back = step.action == "move" and not os.path.lexists(source)
    if reason := None if goes_back and target.is_file() else _reason_to_stay(step):
        return Failure(str(target), reason)
    try:
        if dry_run:
            pass
        elif goes_back:
            Path(source).parent.mkdir(parents=True, exist_ok=True)
            move_file(str(target), Path(source))
        else:
            target.unlink()
    except OSError as error:
        return Failure(str(target), f"cannot be undone: {error.strerror or error}")
    return step


def _reason_to_stay(step: Undone) -> str | None:
    """Return why the file that a step made is not to be removed, None if it is surely elsewhere too.

    A move that was killed between its two halves leaves such a file as well.
    """
    source, target = step.source, step.target
    if step.action == "link":
        is_ours = target.is_symlink() and os.readlink(target) == source  # noqa: PTH115
        return None if is_ours else f"stays: it is no longer the link to {source}"
    if target.is_symlink() or not target.is_file():
        return "stays: it is no longer the file that was put there"
    if not os.path.isfile(source):  # noqa: PTH113
        return f"stays: its original {source} is gone"
    try:
        is_other_file = os.path.realpath(source) != os.path.realpath(target)
        if is_other_file and filecmp.cmp(source, target, shallow=False):
            return None
    except OSError as error:
        return f"stays: it cannot be compared with {source}: {error.strerror or error}"
    if step.action == "move":
        return f"stays: another file is at {source}"
    return f"stays: it or its original {source} was changed"


def _tidy(folder: Path, lines: Sequence[bytes], folders: Iterable[Path]) -> None:
    """Keep the lines and the metadata of what is still there, and remove what is empty."""
    try:
        _keep(folder / UNDO_LIST, lines)
        rows = read_metadata(folder / METADATA)
        left = {name: cells for name, cells in rows.items() if (folder / name).is_file()}
        if left != rows:
            table = [HEADING, *((name, *(cell or None for cell in cells)) for name, cells in left.items())]
            _keep(folder / METADATA, [csv_text(table).encode()] if left else [])
    except (OSError, StoreError) as error:
        raise ReportError(str(error)) from error
    for inner in folders:
        for draft in inner.glob(".*.tmp") if inner.is_dir() else ():
            if _DRAFT.fullmatch(draft.name):
                draft.unlink(missing_ok=True)
        with suppress(OSError):  # which has other files
            inner.rmdir()
    with suppress(OSError):
        folder.rmdir()


def _keep(path: Path, chunks: Sequence[bytes]) -> None:
    if chunks:
        durable.replace(path, chunks)
    else:
        path.unlink(missing_ok=True)
