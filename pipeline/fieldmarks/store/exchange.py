"""Stores from and to other programs' files: import, export, copy, salvage."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fieldmarks.errors import StoreError
from fieldmarks.records import FORMAT_VERSION, IMPORTED, Entry
from fieldmarks.store import card, disk, formats
from fieldmarks.store.changes import Change, apply
from fieldmarks.store.curate import Stamp, end
from fieldmarks.store.jsonl import Store, in_force
from fieldmarks.store.lines import BOM, MAX_LINE, NewerVersionError, entry

KINDS: Final = ("json", "csv", "tsv", "folder")
MAX_FILE: Final = 1 << 28  # bytes; a million classes of the paper's size


def kind_of_file(path: Path, kind: str | None) -> str:
    """Return the format: `kind` if given, else by the name. Raises StoreError if the name does not tell."""
    if kind:
        return kind
    suffix = path.suffix.lower().removeprefix(".")
    if suffix in KINDS[:3]:
        return suffix
    if path.is_dir() or not suffix:
        return "folder"
    raise StoreError(f"{path}: its name does not tell the format: add --format {'|'.join(KINDS)}")


def read_file(path: Path, kind: str | None = None) -> list[Entry]:
    """Return the classes of another program's file, in its order. Raises StoreError that names the file."""
    kind = kind_of_file(path, kind)
    if kind == "folder":
        return list(Store.open(path / card.DATA).entries())
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise StoreError(f"{path} has over {MAX_FILE:,} bytes: split it")
        lists = formats.load(data.decode("utf-8"), kind)
    except (OSError, UnicodeDecodeError) as error:
        raise disk.unreadable(path, error) from error
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    return [Entry(name, tuple(some), origin=IMPORTED) for name, some in lists.items()]


def import_file(
    store: Store, entries: Sequence[Entry], stamp: Stamp, *, overwrite: bool = False, dry_run: bool = False
) -> list[Change]:
    """Append classes that are not in the store as they are; those that are there alike are left.

    Raises StoreError, before anything is written, if a class is there with other descriptors and not
    `overwrite`.
    """

    def make(now: Store) -> Iterator[Entry]:
        new = [one for one in entries if _list(now.get(one.name)) != one.descriptors]
        if not overwrite and (there := [one.name for one in new if one.name in now]):
            some = ", ".join(map(repr, there[:3])) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
            raise StoreError(
                f"{store.path} has other descriptors for {some}: --replace puts the new ones in force"
            )
        for one in new:
            line = _stamped(one, stamp)
            past = now.history(one.name)
            if in_force([*past, line]) is not line:  # an answer does not come into force over a person's line
                yield end(past[-1], stamp, "replaced by an import")
            yield line

    return apply(store, make, dry_run=dry_run)


def export_text(entries: Iterable[Entry], kind: str) -> str:
    """Return the lists in force as the text of a json, csv or tsv file."""
    return formats.dump({one.name: one.descriptors for one in entries}, kind)


def export_file(store: Store, path: Path, kind: str, *, license_id: str, force: bool = False) -> None:
    """Write the lists in force as another program's file or folder.

    Raises StoreError if it is there already.
    """
    if kind == "folder":
        contents = card.files(path, list(store.entries()), license_id)
    else:
        contents = {path: export_text(store.entries(), kind).encode()}
    if any(one.exists() and one.samefile(store.path) for one in contents):
        raise StoreError(f"{path} is the store itself, whose history would be lost: choose another name")
    if not force and (there := [one for one in contents if os.path.lexists(one)]):
        raise StoreError(f"{there[0]} is there already: choose another name, or give --force")
    for one, data in contents.items():
        write_new(one, [data], force=force)


def copy_store(store: Store, path: Path) -> None:
    """Copy a store with all its history to a new file. Raises StoreError if there is one already."""
    write_new(path, (line + b"\n" for line, _ in store.lines()))


def salvage(source: Path, path: Path) -> tuple[int, list[int]]:
    """Copy the whole lines of a damaged store to a new file; return their count and the numbers of the
    others.

    Raises StoreError if the new file is there already, or a line is of a newer version.
    """
    whole: list[bytes] = []
    lost: list[int] = []
    for number, line in enumerate(_lines(source), 1):
        if not line.strip():
            continue
        try:
            entry(line)
            whole.append(line.strip() + b"\n")
        except NewerVersionError as error:
            raise StoreError(f"{source}, line {number}: {error}") from error
        except StoreError:
            lost.append(number)
    write_new(path, whole)
    return len(whole), lost


def write_new(path: Path, chunks: Iterable[bytes], *, force: bool = False) -> None:
    """Write a file whole or not at all. Raises StoreError if it is there already and not `force`."""
    real = Path(os.path.realpath(path))
    if real.is_dir() or (os.path.lexists(real) and not force):
        raise StoreError(f"{path} is there already: choose another name")
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk.unwritable(path, error) from error
    disk.replace(real, chunks)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield a file's lines; of one that is too long its beginning, which is not a whole line."""
    try:
        with path.open("rb") as file:
            first = len(BOM) if file.read(len(BOM)) == BOM else 0
            file.seek(first)
            while line := file.readline(MAX_LINE + 1):
                rest = line
                while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE + 1)
                yield line
    except OSError as error:
        raise disk.unreadable(path, error) from error


def _list(one: Entry | None) -> tuple[str, ...] | None:
    return None if one is None else one.descriptors


def _stamped(one: Entry, stamp: Stamp) -> Entry:
    """Return an imported line, which undoes nothing; with an origin it keeps who made it and when."""
    if one.origin != IMPORTED or one.at:
        return replace(one, change=stamp.change, undo=False, redo=False)
    return stamp.put(replace(one, v=FORMAT_VERSION))
