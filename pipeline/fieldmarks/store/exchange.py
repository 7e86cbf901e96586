"""Exchanges lists with other programs' files, and copies stores: import, export, copy, salvage.

Besides plain files there is the folder, as the Hugging Face Hub holds data sets: the current lines and a card
that states their origin.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fieldmarks.errors import StoreError
from fieldmarks.paths import read_text
from fieldmarks.records import FORMAT_VERSION, IMPORTED, Entry
from fieldmarks.store import durable, formats
from fieldmarks.store.card import TITLE, About, authors_of, card
from fieldmarks.store.edits import IMPORT, Change, Stamp, apply, removed
from fieldmarks.store.file import Store
from fieldmarks.store.lines import BOM, MAX_LINE, NewerVersionError, current, decode, encode
from fieldmarks.store.remote import CARD, DATA, MAX_CARD
from fieldmarks.store.reviewing import reviewed
from fieldmarks.tables import read_table

logger = logging.getLogger(__name__)


def files(folder: Path, entries: Sequence[Entry], license_id: str) -> dict[Path, bytes]:
    """Return the files of an exported folder and their contents."""
    lines = [replace(entry, compacted=False, position=None) for entry in entries]
    text = card(entries, About(licence=license_id, authors=authors_of(entries)), data=DATA)
    return {folder / DATA: b"".join(map(encode, lines)), folder / CARD: text.encode()}


def is_card(file: Path) -> bool:
    """Return whether a file is a card that `card` made."""
    try:
        lines = read_text(file, MAX_CARD, StoreError).split("\n")
    except StoreError:
        return False
    return lines[0] == "---" and any(line.startswith(f'pretty_name: "{TITLE}') for line in lines)


KINDS: Final = ("json", "csv", "tsv", "folder")
WORKBOOKS: Final = ("xlsx", "xls", "ods")
MAX_FILE: Final = 1 << 28  # bytes; a million classes of the paper's size


def kind_of_file(path: Path, kind: str | None) -> str:
    """Return the format to write: `kind`, else by the file name. Raises StoreError if that is unclear."""
    if kind:
        return kind
    suffix = path.suffix.lower().removeprefix(".")
    if suffix in KINDS[:3]:
        return suffix
    if os.path.isdir(path) or not suffix:  # noqa: PTH112  # accepts an over-long name
        return "folder"
    if suffix in WORKBOOKS:
        raise StoreError(f"{path}: workbooks are not written: export to a .csv, which Excel and others open")
    raise StoreError(f"{path}: its name does not show the format: pass --format {'|'.join(KINDS)}")


def read_file(
    path: Path,
    kind: str | None = None,
    columns: Sequence[str] = (),
) -> list[Entry]:
    """Return the classes of another program's file, in file order; logs how it was read.

    `kind` overrides the file's suffix, `columns` its headings. Raises StoreError naming the file.
    """
    if kind == "folder" or (kind is None and os.path.isdir(path)):  # noqa: PTH112  # accepts over-long names
        if columns:
            raise StoreError(f"{path} is a folder and has no columns: leave out --columns")
        return list(Store(path / DATA).entries())
    table = read_table(path, MAX_FILE, StoreError, suffix=f".{kind}" if kind else None)
    imported = formats.load(table, columns)
    logger.info("%s", imported.report)
    return [
        Entry(name, tuple(some), origin=IMPORTED, review=imported.marks.get(name))
        for name, some in imported.lists.items()
    ]


def import_file(
    store: Store, entries: Sequence[Entry], stamp: Stamp, *, overwrite: bool = False, dry_run: bool = False
) -> list[Change]:
    """Append the classes whose lists or review marks the store does not have; the others are left alone.

    A mark is about one list, and a table does not say which. If a table's list replaces the store's, a mark
    equal to the store's is therefore dropped, as it may be older than the change. A class with the store's
    list and no mark keeps the store's mark. Raises StoreError, before anything is written, if a class exists
    with other descriptors, unless `overwrite`.
    """

    # This makes undo treat a line with a past in another store, such as rejected texts, as the class's first.
    stamp = replace(stamp, change=f"{IMPORT}{stamp.change}")

    def make(now: Store) -> Iterator[Entry | None]:
        new = [entry for entry in entries if _list(now.get(entry.name)) != entry.descriptors]
        if not overwrite and (there := [entry.name for entry in new if entry.name in now]):
            some = ", ".join(map(repr, there[:3])) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
            raise StoreError(
                f"{store.name} has other descriptors for {some}: pass --replace to make the new ones current"
            )
        for entry in entries:
            before = now.get(entry.name)
            if before is not None and before.descriptors == entry.descriptors:
                if entry.review not in (None, before.review):
                    yield reviewed(before, entry.review, stamp, entry.reviewed)
                continue
            line = _stamped(entry, stamp, before.review if before else None)
            past = now.history(entry.name)
            if current([*past, line]) is not line:  # a person's line takes precedence
                yield removed(past[-1], stamp, "replaced by an import")
            yield line

    return apply(store, make, dry_run=dry_run)


def export_text(entries: Iterable[Entry], kind: str) -> str:
    """Return the lists as the text of a json, csv or tsv file."""
    entries = list(entries)
    marks = {entry.name: entry.review for entry in entries if entry.review}
    return formats.dump({entry.name: entry.descriptors for entry in entries}, kind, marks)


def export_file(store: Store, path: Path, kind: str, *, license_id: str, force: bool = False) -> None:
    """Write the current lists as another program's file or folder.

    Raises StoreError for a store without classes, a path that is the store itself, and one that exists. With
    `force`, a regular file is overwritten, and so are the files of an earlier export's folder.
    """
    entries = current_entries(store)
    if kind == "folder":
        contents = files(path, entries, license_id)
        _check_folder(path, contents, force=force)
    else:
        contents = {path: export_text(entries, kind).encode()}
    for file in contents:
        if _same_file(file, store.path):
            raise StoreError(f"{file} is the store itself, whose history would be lost: choose another name")
        check_new(file, force=force, remedy="choose another name, or pass --force")
    for file, data in contents.items():
        write_new(file, [data], force=force)


def current_entries(store: Store) -> list[Entry]:
    """Return the current lines. Raises StoreError, with a remedy, if there are none."""
    entries = list(store.entries())
    if not entries:
        if store.all_names():
            remedy = f"`fieldmarks store redo {store.name}` brings back what an undo took away"
            raise StoreError(f"{store.name} has no class left: {remedy}")
        raise StoreError(f"{store.name} has no class: fill it with `fieldmarks generate` or `store import`")
    return entries


def copy_store(store: Store, path: Path) -> None:
    """Copy a store with all its history to a new file. Raises StoreError if the file exists."""
    write_new(path, (line + b"\n" for line, _ in store.lines()))


def salvage(source: Path, path: Path) -> tuple[int, list[int]]:
    """Copy the intact lines of a damaged store to a new file; return their count and the numbers of the rest.

    Raises StoreError if the new file exists, a line is of a newer version, or no line is intact.
    """
    whole: list[bytes] = []
    lost: list[int] = []
    for number, line in enumerate(_lines(source), 1):
        if not line.strip():
            continue
        try:
            decode(line)
            whole.append(line.strip() + b"\n")
        except NewerVersionError as error:
            raise StoreError(f"{source}, line {number}: {error}") from error
        except StoreError:
            lost.append(number)
    if not whole:
        raise StoreError(f"{source} has no intact line of a store: nothing was copied")
    write_new(path, whole)
    return len(whole), lost


def write_new(path: Path, chunks: Iterable[bytes], *, force: bool = False) -> None:
    """Write a file atomically. Raises StoreError if it exists (with `force`, only if not a regular file)."""
    check_new(path, force=force)
    real = Path(os.path.realpath(path))
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise durable.unwritable(path, error) from error
    durable.replace(real, chunks)


def check_new(path: Path, *, force: bool = False, remedy: str = "choose another name") -> None:
    """Raise StoreError for a path that exists, or with `force` for anything but a regular file."""
    if not os.path.lexists(path):
        return
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        reason = "is a symlink to a file that does not exist" if path.is_symlink() else "cannot be read"
        raise StoreError(f"{path} already exists and {reason}: choose another name") from error
    if not regular:
        what = "a folder" if path.is_dir() else "not a regular file"
        raise StoreError(f"{path} already exists and is {what}: choose another name")
    if not force:
        raise StoreError(f"{path} already exists: {remedy}")


def _check_folder(folder: Path, contents: Iterable[Path], *, force: bool) -> None:
    """Raise StoreError for a folder that exists, or with `force` for one that is not an earlier export."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} already exists and is not a folder: choose another name, or --format")
    if not force:
        raise StoreError(
            f"{folder} already exists: choose another name, or pass --force to replace an export"
        )
    if any(os.path.lexists(file) for file in contents) and not is_card(folder / CARD):
        raise StoreError(f"{folder / CARD} is not a card that fieldmarks wrote: choose another folder")


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


def _lines(path: Path) -> Iterator[bytes]:
    """Yield a file's lines; of an over-long line only the beginning, which is not a whole line."""
    fd = durable.open_to_read(path)
    try:
        with os.fdopen(fd, "rb") as file:
            first = len(BOM) if file.read(len(BOM)) == BOM else 0
            file.seek(first)
            while line := file.readline(MAX_LINE + 1):
                rest = line
                while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE + 1)
                yield line
    except OSError as error:
        raise durable.unreadable(path, error) from error


def _list(entry: Entry | None) -> tuple[str, ...] | None:
    return None if entry is None else entry.descriptors


def _stamped(entry: Entry, stamp: Stamp, mark: str | None) -> Entry:
    """Return an imported line, which undoes nothing; if it has an origin, it keeps who made it and when.

    `mark` is the mark of the list that it replaces.
    """
    if entry.review and entry.reviewed is None:  # from a table
        if entry.review == mark:
            entry = replace(entry, review=None)
        else:
            facts = {"by": stamp.by, "at": stamp.at, "note": stamp.note}
            entry = replace(entry, reviewed=facts | {"change": ""})  # it has no change of its own
    if entry.origin != IMPORTED or entry.at:
        return replace(entry, change=stamp.change, undo=False, redo=False, compacted=False, position=None)
    return stamp.put(replace(entry, v=FORMAT_VERSION))
