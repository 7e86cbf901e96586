"""Images sorted into folders by label: an image folder that `datasets` reads, with a list to undo it.

    sorted/tree frog/a.jpg       a folder for each class, named as every file system takes it
    sorted/(unsure)/b.jpg        images without a label
    sorted/metadata.csv          file_name,label,probability,runner_up,runner_up_probability,marks,…
    sorted/sorted.jsonl          {"action": "move", "from": "/photos/a.jpg", "to": "/sorted/tree frog/a.jpg"}

Nothing is ever overwritten: beside another image of its name, a.jpg becomes a-2.jpg, and one that is there
already, with the same content, is left where it is. A step is in sorted.jsonl before it is taken, so the list
has all that was done, whenever the process ends; it may name one step more, the last. metadata.csv has the
label and the marks of every image that is there when it is written, at the end.
Source of the layout: https://huggingface.co/docs/datasets/image_dataset.
"""

import csv
import fcntl
import filecmp
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from fieldmarks.choices import SortAction
from fieldmarks.classification.result_files import COLUMNS
from fieldmarks.classification.results import NONE_OF_THESE, UNSURE, Failure
from fieldmarks.errors import ReportError, StoreError
from fieldmarks.paths import folder_names, open_regular, read_regular, unwritable
from fieldmarks.store import durable
from fieldmarks.tables.writing import BOM, csv_row, csv_text, unguarded

METADATA: Final = "metadata.csv"
UNDO_LIST: Final = "sorted.jsonl"
HEADING: Final = ("file_name", *COLUMNS[1:])
MAX_METADATA: Final = 1 << 30  # bytes
_LONGEST_STEP: Final = 1 << 16  # bytes of a line; two paths, escaped
# What `datasets` takes for the name of a split in the name of a file or folder.
_SPLIT: Final = re.compile(
    r"(^|[-._ 0-9/])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)([-._ 0-9/])"
)


Row = Sequence[object]  # the cells of a result in CSV, in the order of COLUMNS: image, label, …


@dataclass(frozen=True, slots=True)
class Step:
    """An image on its way: from a file to a file. With `is_there` the same image is at the target already."""

    action: SortAction
    source: str
    target: Path
    row: Row
    is_there: bool = False


class SortedFolder:
    """A folder that images are sorted into: a new one, or one that has been sorted into before.

        folder = SortedFolder(Path("sorted"), classifier.classes)
        rows = map(csv_cells, classifier.predict("photos/", explain=True))
        for step in folder.carry_out(folder.plan(rows, "copy")):
            print(step)

    Raises ReportError for a folder that cannot be written, and for a metadata.csv or sorted.jsonl in it that
    is not of fieldmarks.
    """

    def __init__(self, folder: Path, classes: Iterable[str]) -> None:
        self.path = folder
        names = dict.fromkeys((UNSURE, NONE_OF_THESE, *classes))
        self._folders = folder_names(names, taken=(METADATA, UNDO_LIST))
        check_folder(folder)

    def plan(
        self, rows: Iterable[Row], action: SortAction, path_of: Callable[[str], str] = str
    ) -> Generator[Step | Failure, None, None]:
        """Yield what would be done with each image, or why it cannot be; nothing is changed.

        `rows` are results as `csv_cells` returns them, without those of unreadable images; `path_of` returns
        the file of an image by its name.
        """
        planned: dict[str, str] = {}  # sources of this run, by targets as a file system without case has them
        for row in rows:
            image, label = str(row[0]), str(row[1])
            source = path_of(image)
            if not os.path.isfile(source):  # noqa: PTH113 - a Path takes as long as the call
                yield Failure(image, "cannot be sorted: there is no such file")
                continue
            for target in _candidates(self.path / self._folders[label], Path(source).name):
                key = str(target).casefold()
                occupant = str(target) if os.path.lexists(target) else planned.get(key)
                if occupant is None or _same(source, occupant):
                    planned[key] = source
                    yield Step(action, source, target, row, is_there=occupant is not None)
                    break

    def carry_out(self, steps: Iterable[Step | Failure]) -> Generator[Step | Failure, None, None]:
        """Take the steps, and yield each when it is done, or a Failure. Raises ReportError."""
        taken: list[Step] = []
        with self._undo_list() as undo_list:
            try:
                for step in steps:
                    if isinstance(step, Failure):
                        yield step
                        continue
                    taken.append(step)
                    try:
                        if not step.is_there:
                            _note(undo_list, step)
                            _take(step)
                    except OSError as error:
                        reason = error.strerror or str(error)
                        yield Failure(str(step.row[0]), f"cannot be sorted: {reason}")
                    else:
                        yield step
            finally:
                self._write_metadata(taken)

    def name_of(self, step: Step) -> str:
        """Return a step's target as metadata.csv names it."""
        return step.target.relative_to(self.path).as_posix()

    @contextmanager
    def _undo_list(self) -> Iterator[IO[bytes]]:
        path = self.path / UNDO_LIST
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                lock_list(self.path, file)
                _cut_torn_line(file)
                yield file
                os.fsync(file.fileno())
        except OSError as error:
            raise ReportError(f"{path} cannot be written: {error.strerror or error}") from error

    def _write_metadata(self, steps: Iterable[Step]) -> None:
        """Add the rows of what is there now to those of earlier runs whose images still are."""
        rows = read_metadata(self.path / METADATA)
        rows |= {self.name_of(step): tuple(step.row[1:]) for step in steps}
        there = (
            (name, *(cell or None for cell in cells))
            for name, cells in rows.items()
            if (self.path / name).is_file()
        )
        try:
            durable.replace(self.path / METADATA, [csv_text((HEADING, *there)).encode("utf-8")])
        except StoreError as error:
            raise ReportError(str(error)) from error


def check_folder(folder: Path) -> None:
    """Raise ReportError for a folder that cannot be sorted into; see SortedFolder."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise ReportError(f"{folder} already exists and is not a folder: choose another name")
    place = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    if reason := unwritable(folder, place):
        raise ReportError(f"{folder} {reason}")
    read_metadata(folder / METADATA)
    _check_undo_list(folder / UNDO_LIST)


def lock_list(folder: Path, file: IO[Any]) -> None:
    """Take the lock of a folder's undo list, which lasts until it is closed. Raises ReportError, OSError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_current = os.path.samestat(os.fstat(file.fileno()), (folder / UNDO_LIST).stat())
    except (BlockingIOError, FileNotFoundError):
        is_current = False
    if not is_current:  # also where the other process has just replaced the list
        raise ReportError(f"{folder} is being sorted into by another process: wait for it")


def split_name(names: Iterable[str]) -> str | None:
    """Return the first name of which `datasets` would take a part for a split ("test tube/1.jpg"), if any."""
    return next((name for name in names if _SPLIT.search(name)), None)


def read_metadata(path: Path) -> dict[str, tuple[object, ...]]:
    """Return the rows of an earlier run by file name. Raises ReportError for a file that is not one's."""
    if not os.path.lexists(path):
        return {}
    try:
        text = read_regular(path, MAX_METADATA).decode("utf-8")
        if text.startswith(BOM + csv_row(HEADING)):
            _, *rows = csv.reader(io.StringIO(text.removeprefix(BOM), newline=""))
            return {unguarded(name): tuple(map(unguarded, cells)) for name, *cells in filter(None, rows)}
    except (OSError, UnicodeDecodeError, csv.Error):
        pass
    raise ReportError(f"{path} already exists and is not of an earlier run: choose another folder")


def _check_undo_list(path: Path) -> None:
    if not os.path.lexists(path):
        return
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            line = file.readline(_LONGEST_STEP)
        if not line or json.loads(line).keys() == {"action", "from", "to"}:
            return
    except (OSError, ValueError, AttributeError):
        pass
    raise ReportError(f"{path} already exists and is not of an earlier run: choose another folder")


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    """Yield the paths that a file may have in a folder: a.jpg, a-2.jpg, a-3.jpg, …"""
    name = os.fsencode(name).decode("utf-8", "replace").replace("\\", "_")  # as metadata.csv can name it
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    yield folder / name
    for number in count(2):
        yield folder / f"{stem}-{number}{suffix}"


def _same(source: str, other: str) -> bool:
    """Whether two paths are of the same file, or of equal ones."""
    with suppress(OSError):
        return os.path.samefile(source, other) or filecmp.cmp(source, other, shallow=False)  # noqa: PTH121
    return False


def _cut_torn_line(undo_list: IO[bytes]) -> None:
    """Cut off a line that was not written whole, whose step was not taken."""
    size = undo_list.seek(0, os.SEEK_END)
    undo_list.seek(max(0, size - _LONGEST_STEP))
    torn = undo_list.read().rpartition(b"\n")[2]
    if torn:
        undo_list.truncate(size - len(torn))


def _note(undo_list: IO[bytes], step: Step) -> None:
    source, target = (os.path.abspath(path) for path in (step.source, step.target))  # noqa: PTH100
    undo_list.write(json.dumps({"action": step.action, "from": source, "to": target}).encode() + b"\n")
    undo_list.flush()


def _take(step: Step) -> None:
    """Copy, move or link an image. Raises OSError, also for a target that exists by now."""
    step.target.parent.mkdir(parents=True, exist_ok=True)
    if step.action == "copy":
        _copy(step.source, step.target)
    elif step.action == "link":
        step.target.symlink_to(os.path.abspath(step.source))  # noqa: PTH100
    elif os.path.islink(step.source):  # noqa: PTH114  # it may lead somewhere from its own folder only
        step.target.symlink_to(os.path.realpath(step.source))
        os.unlink(step.source)  # noqa: PTH108
    else:
        move_file(step.source, step.target)


def _copy(source: str, target: Path) -> None:
    draft = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        shutil.copy2(source, draft)
        _rename(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def move_file(source: str, target: Path) -> None:
    try:
        _rename(source, target)
    except FileExistsError:
        raise
    except OSError:  # to another file system
        _copy(source, target)
        try:
            os.unlink(source)  # noqa: PTH108
        except OSError:
            target.unlink()
            raise


def _rename(source: str | Path, target: Path) -> None:
    """Rename a file, but never onto another."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, or another one
        if os.path.lexists(target):
            raise FileExistsError(17, "a file of this name exists by now", str(target)) from None
        os.rename(source, target)  # noqa: PTH104
        return
    try:
        os.unlink(source)  # noqa: PTH108
    except OSError:
        target.unlink()
        raise
