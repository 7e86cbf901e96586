"""Compares stores, merges two into a new one with the history of both, and compacts one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fieldmarks.records import FAILED, GENERATED, Entry
from fieldmarks.store.edits import Change, Stamp, removed
from fieldmarks.store.exchange import write_new
from fieldmarks.store.file import Store
from fieldmarks.store.lines import current, encode
from fieldmarks.text import comparable

Lines = list[tuple[bytes, Entry]]


def diff(a: Store, b: Store) -> list[Change]:
    """Return how the current lists of `b` differ from those of `a`, in the order of `a`, then `b`."""
    names = dict.fromkeys([*a.names(), *b.names()])
    changes = (Change(name, a.get(name), b.get(name)) for name in names)
    return [change for change in changes if _list(change.before) != _list(change.after)]


def merge(a: Store, b: Store, out: Path, prefer: str, stamp: Stamp) -> list[str]:
    """Write a new store of both; return the classes in which they disagree, in the order of `a`, then `b`.

    A class that is current in one store alone comes from there. Where it is in both, `prefer` decides: the
    store, the line that was made last, or the union of their lists without what either has rejected. Raises
    StoreError if `out` is there already.
    """
    mine, theirs = _by_class(a), _by_class(b)
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


def _merged(a: Lines, b: Lines, prefer: str, stamp: Stamp) -> Iterator[bytes]:
    """Yield a class's lines: the loser's that the winner lacks, the winner's, and what makes that current."""
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
    """Return when a line was made; one that does not say is the oldest."""
    try:
        at = datetime.fromisoformat(entry.at or "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


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
    """How many lines a store has and how many stay."""

    before: int
    after: int


def compact(store: Store, *, keep_history: bool = False, dry_run: bool = False) -> Compaction:
    """Rewrite a store to its current lines and the last answer to every question, which is not asked again.

    With `keep_history` only blank and incomplete lines go. Lines that stay keep their bytes.
    Raises StoreError; the file is then as it was.
    """
    counts = [0, 0]

    def choose(now: Store) -> Iterable[bytes]:
        lines = list(now.lines())
        histories: dict[str, list[Entry]] = {}
        for _, entry in lines:
            histories.setdefault(entry.name, []).append(entry)
        needed = {id(entry) for history in histories.values() for entry in _needed(history)}
        rest = [line for line, entry in lines if keep_history or id(entry) in needed]
        counts[:] = [len(lines), len(rest)]
        return rest

    if dry_run:
        choose(store)
    else:
        store.rewrite(choose)
    return Compaction(*counts)


def _needed(history: list[Entry]) -> list[Entry]:
    """Return the current line of a class and the last answer to each question since its last end."""
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
