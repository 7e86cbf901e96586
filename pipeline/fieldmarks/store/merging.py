"""Two stores into a new one, with the history of both."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fieldmarks.records import Entry
from fieldmarks.store.curate import Stamp, comparable, end
from fieldmarks.store.exchange import write_new
from fieldmarks.store.jsonl import Store, in_force
from fieldmarks.store.lines import encode

PREFERENCES: Final = ("a", "b", "newest", "union")
Lines = list[tuple[bytes, Entry]]


def merge(a: Store, b: Store, out: Path, prefer: str, stamp: Stamp) -> list[str]:
    """Write a new store of both; return the classes in which they disagree, in the order of `a`, then `b`.

    A class that one store alone has in force comes from there. Where both have one, `prefer` decides: the
    store, the line that was made last, or the union of their lists without what either has struck. Raises
    StoreError if `out` is there already.
    """
    mine, theirs = _by_class(a), _by_class(b)
    names = list(dict.fromkeys([*mine, *theirs]))
    merged = {name: _merged(mine.get(name, []), theirs.get(name, []), prefer, stamp) for name in names}
    write_new(out, (line + b"\n" for lines in merged.values() for line in lines))
    both = (name for name in names if name in a and name in b)
    return [name for name in both if _list(a.get(name)) != _list(b.get(name))]


def _by_class(store: Store) -> dict[str, Lines]:
    found: dict[str, Lines] = {name: [] for name in store.all_names()}
    for line, one in store.lines():
        found[one.name].append((line, one))
    return found


def _merged(a: Lines, b: Lines, prefer: str, stamp: Stamp) -> Iterator[bytes]:
    """Yield a class's lines: the loser's that the winner lacks, the winner's, and what puts that in force."""
    from_a, from_b = (in_force([one for _, one in lines]) for lines in (a, b))
    b_wins = from_a is None or (from_b is not None and _prefers_b(from_a, from_b, prefer))
    winner, loser = (b, a) if b_wins else (a, b)
    known = {line for line, _ in winner}
    lines = [(line, one) for line, one in loser if line not in known]
    wanted = in_force([one for _, one in winner])
    if lines and in_force([one for _, one in (*lines, *winner)]) is not wanted:
        ended = end(lines[-1][1], stamp, "merged: the other store's lines follow")
        lines.append((encode(ended).rstrip(b"\n"), ended))
    yield from (line for line, _ in (*lines, *winner))
    if prefer == "union" and from_a is not None and from_b is not None:
        union = _union(from_a, from_b, stamp)
        if (union.descriptors, union.rejected) != (from_a.descriptors, from_a.rejected):
            yield encode(union).rstrip(b"\n")


def _prefers_b(a: Entry, b: Entry, prefer: str) -> bool:
    return prefer == "b" or (prefer == "newest" and _made(b) > _made(a))


def _made(entry: Entry) -> datetime:
    """Return when a line was made; one that does not say is the oldest."""
    try:
        at = datetime.fromisoformat(entry.at or "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _union(a: Entry, b: Entry, stamp: Stamp) -> Entry:
    struck = {comparable(one): one for one in (*a.rejected, *b.rejected)}
    said = {comparable(one) for one in a.descriptors}
    both = (*a.descriptors, *(one for one in b.descriptors if comparable(one) not in said))
    kept = [one for one in both if comparable(one) not in struck]
    base = replace(a, measured=None, extra={**b.extra, **a.extra})
    return replace(stamp.curated(base, kept, struck.values()), note=stamp.note or "union of two stores")


def _list(entry: Entry | None) -> Sequence[str] | None:
    return None if entry is None else entry.descriptors
