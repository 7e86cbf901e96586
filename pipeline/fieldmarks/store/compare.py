"""Compares stores (also as of a past date), merges two into a new one, and compacts one."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.errors import StoreError
from fieldmarks.records import FAILED, GENERATED, Entry
from fieldmarks.store.edits import Change, Stamp, removed
from fieldmarks.store.exchange import write_new
from fieldmarks.store.file import Store
from fieldmarks.store.lines import current, encode, ordered
from fieldmarks.text import comparable

Lines = list[tuple[bytes, Entry]]
Current = Mapping[str, Entry]  # the current line of each class


def diff(a: Current, b: Current) -> list[Change]:
    """Return how lists and review marks of `b` differ from those of `a`, in the order of `a`, then `b`."""
    names = dict.fromkeys([*a, *b])
    changes = (Change(name, a.get(name), b.get(name)) for name in names)
    return [change for change in changes if change.is_remarked or _list(change.before) != _list(change.after)]


def current_lines(spec: str) -> dict[str, Entry]:
    """Return the current line of each class of STORE, or of STORE@DATE as it was then; see `dated`.

    Raises StoreError, also if the store has no line that old.
    """
    name, moment = dated(spec)
    store = Store(name)
    return {entry.name: entry for entry in store.entries()} if moment is None else as_of(store, moment)


def dated(spec: str) -> tuple[str, datetime | None]:
    """Split STORE@DATE into the store and the time, which is None if only a store is named.

    DATE is an ISO 8601 date (meaning its start) or time, in UTC unless it has an offset. If a file has the
    whole name, it is that file, and "hf:NAME@REVISION" is not split. Raises StoreError for an invalid date.
    """
    name, at, date = spec.rpartition("@")
    if not at or os.path.lexists(spec) or spec.startswith("hf:"):
        return spec, None
    try:
        moment = datetime.fromisoformat(date)
    except ValueError as error:
        expected = "expected STORE@YYYY-MM-DD or STORE@YYYY-MM-DDTHH:MM (UTC)"
        raise StoreError(f"{spec}: no such file, and {date!r} is not a date: {expected}") from error
    return name, moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def as_of(store: Store, moment: datetime) -> dict[str, Entry]:
    """Return what was current at a time, going by the timestamps in the lines.

    A line without a timestamp, such as one typed by hand, counts as made at the time of the line before it in
    the file. Raises StoreError if no line is that old.
    """
    histories: dict[str, list[Entry]] = {name: [] for name in store.all_names()}
    at, oldest = _NEVER, None
    for _, entry in store.lines():
        at = _last_touched(entry) or at
        oldest = at if oldest is None else min(at, oldest)
        if at <= moment:
            histories[entry.name].append(entry)
    if oldest is not None and oldest > moment:
        first, then = oldest.isoformat(), moment.isoformat()
        raise StoreError(f"{store.name} has nothing from before {then}; its first line is from {first}")
    return {name: now for name, history in histories.items() if (now := current(history)) is not None}


def _last_touched(entry: Entry) -> datetime | None:
    """Return when a line was written: when its list was made, measured or reviewed, whichever was last."""
    times = (entry.at, *((part or {}).get("at") for part in (entry.measured, entry.reviewed)))
    return max((moment for moment in map(_parsed, times) if moment), default=None)


_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def _parsed(at: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def merge(a: Store, b: Store, out: Path, prefer: str, stamp: Stamp) -> list[str]:
    """Merge two stores into a new one; return the classes they disagree on, in the order of `a`, then `b`.

    A class that is current in only one store comes from there. For one in both, `prefer` decides: the store,
    the line made last, or the union of the lists without what either has rejected. Raises StoreError if `out`
    already exists.
    """
    mine = _by_class(a)
    theirs = _without_positions(_by_class(b), mine)
    names = list(dict.fromkeys([*mine, *theirs]))
    merged = {name: _merged(mine.get(name, []), theirs.get(name, []), prefer, stamp) for name in names}
    write_new(out, (line + b"\n" for lines in merged.values() for line in lines))
    both = (name for name in names if name in a and name in b)
    return [name for name in both if _list(a.get(name)) != _list(b.get(name))]


def _by_class(store: Store) -> dict[str, Lines]:
    lines: dict[str, Lines] = {name: [] for name in store.all_names()}
    for line, entry in store.lines():
        lines[entry.name].append((line, entry))
    return lines


def _without_positions(lines: dict[str, Lines], others: Mapping[str, Lines]) -> dict[str, Lines]:
    """Return lines without their positions, which mean nothing in another store."""
    known = {line for some in others.values() for line, _ in some}

    def bare(line: bytes, entry: Entry) -> tuple[bytes, Entry]:
        if entry.position is None or line in known:
            return line, entry
        entry = replace(entry, position=None)
        return encode(entry).rstrip(b"\n"), entry

    return {name: [bare(*pair) for pair in some] for name, some in lines.items()}


def _merged(a: Lines, b: Lines, prefer: str, stamp: Stamp) -> Iterator[bytes]:
    """Yield a class's lines: those only the loser has, a removal if needed, the winner's, and any union."""
    from_a, from_b = (current([entry for _, entry in lines]) for lines in (a, b))
    b_wins = from_a is None or (from_b is not None and _prefers_b(from_a, from_b, prefer))
    winner, loser = (b, a) if b_wins else (a, b)
    known = {line for line, _ in winner}
    lines = [(line, entry) for line, entry in loser if line not in known]
    wanted = current([entry for _, entry in winner])
    if lines and current([entry for _, entry in (*lines, *winner)]) is not wanted:
        ended = removed(lines[-1][1], stamp, "merged: the other store's lines follow")
        lines.append((encode(ended).rstrip(b"\n"), ended))
    yield from (line for line, _ in (*lines, *winner))
    if prefer == "union" and from_a is not None and from_b is not None:
        union = _union(from_a, from_b, stamp)
        if (union.descriptors, union.rejected) != (from_a.descriptors, from_a.rejected):
            yield encode(union).rstrip(b"\n")


def _prefers_b(a: Entry, b: Entry, prefer: str) -> bool:
    return prefer == "b" or (prefer == "newest" and _time(b) > _time(a))


def _time(entry: Entry) -> datetime:
    """Return when a line was made; lines without a timestamp are the oldest."""
    return _parsed(entry.at) or _NEVER


def _union(a: Entry, b: Entry, stamp: Stamp) -> Entry:
    rejected = {comparable(text): text for text in (*a.rejected, *b.rejected)}
    known = {comparable(text) for text in a.descriptors}
    both = (*a.descriptors, *(text for text in b.descriptors if comparable(text) not in known))
    texts = [text for text in both if comparable(text) not in rejected]
    base = replace(a, measured=None, extra={**b.extra, **a.extra})
    return replace(stamp.curated(base, texts, rejected.values()), note=stamp.note or "union of two stores")


def _list(entry: Entry | None) -> Sequence[str] | None:
    return None if entry is None else entry.descriptors


@dataclass(frozen=True, slots=True)
class Compaction:
    """How many lines a store has before and after compaction."""

    before: int
    after: int


def compact(store: Store, *, keep_history: bool = False, dry_run: bool = False) -> Compaction:
    """Reduce a store to its current lines and the last answer to each question, so that none is asked again.

    With `keep_history`, only blank and incomplete lines are removed. Lines that stay keep their bytes except
    for two keys: `compacted`, where an undo would need what was removed, and `position`, where classes would
    otherwise change order. Raises StoreError; the file is then unchanged.
    """
    counts = [0, 0]

    def choose(now: Store) -> Iterable[bytes]:
        lines = list(now.lines())
        histories: dict[str, list[Entry]] = {}
        for _, entry in lines:
            histories.setdefault(entry.name, []).append(entry)
        needed = {id(entry) for history in histories.values() for entry in _needed(history)}
        rest = lines if keep_history else _cut_off(lines, needed)
        counts[:] = [len(lines), len(rest)]
        return _in_order(rest, now.names())

    if dry_run:
        choose(store)
    else:
        store.rewrite(choose)
    return Compaction(*counts)


def _cut_off(lines: Lines, needed: Collection[int]) -> Lines:
    """Return the needed lines, given by the ids of their entries, marking those that undo cannot revert.

    These are changes to a removed line, and changes made before such a line or by the same command.
    """
    gone = [(at, entry) for at, (_, entry) in enumerate(lines) if id(entry) not in needed]
    changes = {entry.change for _, entry in gone} - {None}
    last = max((at for at, entry in gone if entry.change), default=-1)
    lost, begun = set[str](), set[str]()  # classes with lines removed, and kept
    rest: list[tuple[bytes, Entry]] = []
    for at, (line, entry) in enumerate(lines):
        if id(entry) not in needed:
            lost.add(entry.name)
            continue
        if entry.origin != FAILED and not entry.compacted:
            is_command = entry.change is not None
            is_cut = entry.name in lost and (is_command or entry.name in begun)
            if is_cut or (is_command and (at < last or entry.change in changes)):
                entry = replace(entry, compacted=True)
                line = encode(entry).rstrip(b"\n")
        if entry.origin != FAILED:
            begun.add(entry.name)
        rest.append((line, entry))
    return rest


def _in_order(lines: Lines, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the lines, with positions if needed to keep the current classes in the order of `names`."""
    positions = {entry.name: entry.position for _, entry in lines if entry.position is not None}
    current_names = set(names)
    shown = ordered(dict.fromkeys(entry.name for _, entry in lines), positions)
    if [name for name in shown if name in current_names] == list(names):
        yield from (line for line, _ in lines)
        return
    places = {name: place for place, name in enumerate(names, 1)}
    for line, entry in lines:
        place = places.get(entry.name)
        yield line if place is None else encode(replace(entry, position=place)).rstrip(b"\n")


def _needed(history: list[Entry]) -> list[Entry]:
    """Return a class's current line and the last answer to each question since it was last removed."""
    now = current(history)
    if now is None and not any(entry.origin in (GENERATED, FAILED) for entry in history):
        return []
    since = next((place for place in range(len(history), 0, -1) if history[place - 1].removed), 0)
    answers = {
        (entry.origin, _question(entry)): entry
        for entry in history[since:]
        if entry.origin in (GENERATED, FAILED)
    }
    return [*answers.values(), *([] if now is None else [now])]


def _question(entry: Entry) -> Any:
    return orjson.dumps([entry.prompt, entry.model, entry.params], option=orjson.OPT_SORT_KEYS, default=dict)
