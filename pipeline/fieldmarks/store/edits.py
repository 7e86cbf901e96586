"""A person's changes to a store: made by `curate` under the lock, appended, told as before and after.

Rewriting a store without what is no longer needed. Lines that stay keep their bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fieldmarks.errors import StoreError
from fieldmarks.records import FAILED, GENERATED, Entry, class_name
from fieldmarks.store import curate
from fieldmarks.store.curate import Stamp, Timeline, find
from fieldmarks.store.file import Store, in_force


@dataclass(frozen=True, slots=True)
class Change:
    """What a command does to one class; None is a class that is not there."""

    name: str
    before: Entry | None
    after: Entry | None


Make = Callable[[Store], Iterable[Entry]]


def apply(store: Store, make: Make, *, dry_run: bool = False) -> list[Change]:
    """Append the lines that `make` returns, unless `dry_run`, and return what they change."""
    changes: dict[str, Change] = {}

    def tell(now: Store) -> list[Entry]:
        lines = list(make(now))
        for one in lines:
            changes[one.name] = Change(one.name, now.get(one.name), None if one.removed else one)
        return lines

    if dry_run:
        tell(store)
    else:
        store.change(tell)
    return list(changes.values())


def as_planned(make: Make, plan: Sequence[Change]) -> Make:
    """Make a change only if it is still the planned one. Raises StoreError if the store has changed since."""

    def remake(store: Store) -> list[Entry]:
        lines = list(make(store))
        after = {line.name: None if line.removed else line for line in lines}
        if after != {change.name: change.after for change in plan}:
            raise StoreError(f"{store.path} changed in the meantime; nothing was written: try again")
        return lines

    return remake


def add(name: str, texts: Sequence[str], stamp: Stamp) -> Make:
    """Add descriptors to a class, which begins if it is new."""
    name = class_name(name)

    def make(store: Store) -> list[Entry]:
        entry = store.get(name) or _last(store, name)
        return _some_of([curate.add(entry, texts, stamp)])

    return make


def drop(name: str, which: Sequence[str], stamp: Stamp) -> Make:
    """Remove descriptors of a class, by text or number."""
    return lambda store: [curate.drop(current_entry(store, name), which, stamp)]


def end(name: str, stamp: Stamp) -> Make:
    """Remove a class."""
    return lambda store: [curate.end(current_entry(store, name), stamp)]


def edit(base: Entry, descriptors: Sequence[str], stamp: Stamp) -> Make:
    """Put other descriptors in the place of `base`'s, unless another person has changed the class since."""

    def make(store: Store) -> list[Entry]:
        if store.get(base.name) != base:
            raise StoreError(f"class {base.name!r} changed in {store.path} while you were editing: try again")
        return _some_of([curate.edit(base, descriptors, stamp)])

    return make


def rename(name: str, new: str, stamp: Stamp) -> Make:
    """Give a class another name, which must be free."""
    new = class_name(new)

    def make(store: Store) -> Iterable[Entry]:
        entry = current_entry(store, name)
        if new in store:
            raise StoreError(f"{store.path} already has a class {new!r}: choose another name")
        return curate.rename(entry, new, stamp)

    return make


def undo(name: str | None, stamp: Stamp) -> Make:
    """Undo the last change of a class, or, without one, the last command with all classes that it changed."""

    def make(store: Store) -> list[Entry]:
        lines = _some_of(curate.undo(store.history(one), stamp) for one in undoable(store, name))
        if not lines:
            raise StoreError(f"{_place(store, name)}: nothing left to undo")
        return lines

    return make


def redo(name: str | None, stamp: Stamp) -> Make:
    """Bring back what the last undo took away: of a class, or, without one, of all its classes."""

    def make(store: Store) -> list[Entry]:
        lines = _some_of(curate.redo(store.history(one), stamp) for one in redoable(store, name))
        if not lines:
            raise StoreError(f"{_place(store, name)}: nothing to redo")
        return lines

    return make


def restore(name: str, number: int, stamp: Stamp) -> Make:
    """Make line `number`, from 1, of a class's history the current one again."""

    def make(store: Store) -> list[Entry]:
        line = curate.restore(store.history(_any_class(store, name)), number, stamp)
        return _some_of([line])

    return make


def undoable(store: Store, name: str | None) -> dict[str, Entry]:
    """Return, by class, the lines that `undo` takes back: of one class, or of the last command not undone."""
    if name is not None:
        name = _any_class(store, name)
        line = Timeline.of(store.history(name)).undoable()
        return {} if line is None else {name: line}
    timelines = _Timelines(store)
    found: dict[str, Entry] = {}
    change = None
    for line in store.newest_first():
        if found and line.change != change:
            break
        if line.change is not None and timelines[line.name].undoable() == line:
            found[line.name], change = line, line.change
    return dict(reversed(found.items()))


def redoable(store: Store, name: str | None) -> dict[str, Entry]:
    """Return, by class, the lines that `redo` brings back: of one class, or of the last undo not redone.

    A command after that undo, on whichever class, ends redo for the store as a whole.
    """
    if name is not None:
        name = _any_class(store, name)
        undone = Timeline.of(store.history(name)).undone
        return {name: line} if undone and (line := undone[-1].line) else {}
    timelines = _Timelines(store)
    found: dict[str, Entry] = {}
    change = None
    for line in store.newest_first():
        if found and line.change != change:
            break
        if line.redo:
            continue
        if line.undo:
            undone = timelines[line.name].undone
            if undone and undone[-1].undone_by == line and undone[-1].line is not None:
                found[line.name], change = undone[-1].line, line.change
        elif line.change is not None:
            break
    return dict(reversed(found.items()))


class _Timelines(dict[str, Timeline]):
    """The timelines of a store's classes, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __missing__(self, name: str) -> Timeline:
        self[name] = Timeline.of(self._store.history(name))
        return self[name]


def current_entry(store: Store, name: str) -> Entry:
    """Return the current line of a class. Raises StoreError that suggests the closest names."""
    name = class_name(name)
    entry = store.get(name)
    if entry is None:
        find(store.names(), name, store.path)
        raise StoreError(f"{store.path}: class {name!r} has been removed")
    return entry


def _last(store: Store, name: str) -> Entry:
    """Return a removed class as empty, but with the descriptors that a person had removed from it."""
    history = store.history(name)
    return Entry(name, rejected=history[-1].rejected if history else ())


def _any_class(store: Store, name: str) -> str:
    """Return the name of a class that the store has or had. Raises StoreError that suggests the closest."""
    return find(store.all_names(), class_name(name), store.path)


def _place(store: Store, name: str | None) -> str:
    return f"{store.path}" if name is None else f"{store.path}, class {class_name(name)!r}"


def _some_of(lines: Iterable[Entry | None]) -> list[Entry]:
    return [line for line in lines if line is not None]


@dataclass(frozen=True, slots=True)
class Compaction:
    """How many lines a store has and how many stay."""

    before: int
    after: int


def compact(store: Store, *, keep_history: bool = False, dry_run: bool = False) -> Compaction:
    """Rewrite a store to the lines in force and the last answer to every question, so that none is asked
    again.

    With `keep_history` every line stays, and only blank and torn ones go. Raises StoreError; the file is then
    as it was.
    """
    counted = [0, 0]

    def choose(now: Store) -> Iterable[bytes]:
        lines = list(now.lines())
        keep = {id(one) for one in _kept(one for _, one in lines)}
        kept = [line for line, one in lines if keep_history or id(one) in keep]
        counted[:] = [len(lines), len(kept)]
        return kept

    if dry_run:
        choose(store)
    else:
        store.rewrite(choose)
    return Compaction(*counted)


def _kept(entries: Iterable[Entry]) -> list[Entry]:
    by_class: dict[str, list[Entry]] = {}
    for one in entries:
        by_class.setdefault(one.name, []).append(one)
    return [one for history in by_class.values() for one in _needed(history)]


def _needed(history: list[Entry]) -> list[Entry]:
    """Return the line in force of a class and the last answer to each question since its last end."""
    force = in_force(history)
    if force is None and not any(one.origin in (GENERATED, FAILED) for one in history):
        return []
    since = next((at for at in range(len(history), 0, -1) if history[at - 1].removed), 0)
    answers = {
        (one.origin, _question(one)): one for one in history[since:] if one.origin in (GENERATED, FAILED)
    }
    return [*answers.values(), *([] if force is None else [force])]


def _question(entry: Entry) -> Any:
    return orjson.dumps([entry.prompt, entry.model, entry.params], option=orjson.OPT_SORT_KEYS, default=dict)
