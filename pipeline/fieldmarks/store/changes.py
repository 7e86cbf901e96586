"""A person's changes to a store: made by `curate` under the lock, appended, told as before and after."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry, class_name
from fieldmarks.store import curate
from fieldmarks.store.curate import Stamp, find
from fieldmarks.store.jsonl import Store


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


def add(name: str, texts: Sequence[str], stamp: Stamp) -> Make:
    """Add descriptors to a class, which begins if it is new."""
    name = class_name(name)

    def make(store: Store) -> list[Entry]:
        entry = store.get(name) or _last(store, name)
        return _some(curate.add(entry, texts, stamp))

    return make


def drop(name: str, which: Sequence[str], stamp: Stamp) -> Make:
    """Strike descriptors of a class, by text or number."""
    return lambda store: [curate.drop(in_force(store, name), which, stamp)]


def end(name: str, stamp: Stamp) -> Make:
    """End a class."""
    return lambda store: [curate.end(in_force(store, name), stamp)]


def edit(base: Entry, descriptors: Sequence[str], stamp: Stamp) -> Make:
    """Put other descriptors in the place of `base`'s, unless another person has changed the class since."""

    def make(store: Store) -> list[Entry]:
        if store.get(base.name) != base:
            raise StoreError(f"class {base.name!r} was changed meanwhile in {store.path}: edit it anew")
        return _some(curate.edit(base, descriptors, stamp))

    return make


def rename(name: str, new: str, stamp: Stamp) -> Make:
    """Give a class another name, which must be free."""
    new = class_name(new)

    def make(store: Store) -> Iterable[Entry]:
        entry = in_force(store, name)
        if new in store:
            raise StoreError(f"{store.path} has a class {new!r} already: choose another name")
        return curate.rename(entry, new, stamp)

    return make


def undo(name: str | None, stamp: Stamp) -> Make:
    """Undo the last change of a class, or, without one, the last command with all classes that it changed."""

    def make(store: Store) -> list[Entry]:
        if name is not None:
            names = [find(store.all_names(), class_name(name), store.path)]
        else:
            names = last_command(store)
        lines = [curate.undo(store.history(one), stamp) for one in names]
        if not any(lines):
            what = f"of class {names[0]!r}" if name else "in the store"
            raise StoreError(f"{store.path}: there is no change {what} left to undo")
        return [line for line in lines if line]

    return make


def last_command(store: Store) -> list[str]:
    """Return the classes that the last command changed, of those commands that are not undone."""
    seen: dict[str, Entry | None] = {}
    found: list[Entry] = []
    for line in store.newest_first():
        if line.name not in seen:
            seen[line.name] = curate.last_change(store.history(line.name))
        if found and line.change != found[0].change:
            break
        if line.change is not None and seen[line.name] == line:
            found.append(line)
    return list(dict.fromkeys(line.name for line in reversed(found)))


def in_force(store: Store, name: str) -> Entry:
    """Return the line in force of a class. Raises StoreError that suggests the closest names."""
    name = class_name(name)
    entry = store.get(name)
    if entry is None:
        find(store.names(), name, store.path)
        raise StoreError(f"{store.path}: class {name!r} is not in force")
    return entry


def _last(store: Store, name: str) -> Entry:
    """Return a class that is not in force as empty, but with what a person had struck from it."""
    history = store.history(name)
    return Entry(name, rejected=history[-1].rejected if history else ())


def _some(line: Entry | None) -> list[Entry]:
    return [] if line is None else [line]
