"""What differs between two stores, or two lines of a class: added, dropped, moved. Pure functions.

Two stores into a new one, with the history of both.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fieldmarks.records import Entry
from fieldmarks.store.curate import Stamp, comparable, end
from fieldmarks.store.exchange import write_new
from fieldmarks.store.file import Store, in_force
from fieldmarks.store.lines import encode


@dataclass(frozen=True, slots=True)
class Difference:
    """How a class's list changed; None in the place of a list is a class that is not there."""

    name: str
    before: tuple[str, ...] | None
    after: tuple[str, ...] | None

    @property
    def status(self) -> str:
        """Whether the class is new, gone or changed."""
        return "added" if self.before is None else "dropped" if self.after is None else "changed"

    @property
    def added(self) -> list[str]:
        """The descriptors that are new, as often as they are."""
        return _more(self.after or (), self.before or ())

    @property
    def dropped(self) -> list[str]:
        """The descriptors that are gone, as often as they are."""
        return _more(self.before or (), self.after or ())

    @property
    def moved(self) -> list[str]:
        """The descriptors that are in both, but stand elsewhere among those that are."""
        before = _without(self.before or (), self.dropped)
        after = _without(self.after or (), self.added)
        places: dict[str, list[int]] = {}
        for at in range(len(before) - 1, -1, -1):
            places.setdefault(before[at], []).append(at)
        stay = _longest_rise([places[text].pop() for text in after])
        return [text for at, text in enumerate(after) if at not in stay]

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON has it."""
        lists = {"added": self.added, "dropped": self.dropped, "moved": self.moved}
        return {"class": self.name, "status": self.status, **lists}

    def lines(self) -> list[str]:
        """Return the difference as lines for people: `-` dropped, `+` added, `~` moved."""
        status = "" if self.status == "changed" else f" ({self.status})"
        marked = (("-", self.dropped), ("+", self.added), ("~", self.moved))
        return [self.name + status, *(f"{mark} {one}" for mark, some in marked for one in some)]


def diff(a: Store, b: Store) -> list[Difference]:
    """Return how the lists in force of `b` differ from those of `a`, in the order of `a`, then `b`."""
    names = dict.fromkeys([*a.names(), *b.names()])
    pairs = (Difference(name, _list(a.get(name)), _list(b.get(name))) for name in names)
    return [one for one in pairs if one.before != one.after]


def change_lines(name: str, before: Entry | None, after: Entry | None) -> list[str]:
    """Return one class's change as lines for people."""
    return Difference(name, _list(before), _list(after)).lines()


def _list(entry: Entry | None) -> tuple[str, ...] | None:
    return None if entry is None else entry.descriptors


def _longest_rise(numbers: Sequence[int]) -> set[int]:
    """Return the positions of a longest rising subsequence of distinct numbers, in time n log n."""
    tops: list[int] = []  # the lowest number in which a rise of each length ends
    ends: list[int] = []  # and its position
    before: list[int] = []  # the position before each in its rise, -1 for none
    for at, number in enumerate(numbers):
        length = bisect_left(tops, number)
        before.append(ends[length - 1] if length else -1)
        tops[length : length + 1], ends[length : length + 1] = [number], [at]
    at, rise = ends[-1] if ends else -1, set()
    while at >= 0:
        rise.add(at)
        at = before[at]
    return rise


def _more(these: Sequence[str], those: Sequence[str]) -> list[str]:
    """Return what `these` have more of than `those`, in order, the later of repeats."""
    left = Counter(those)
    found = []
    for one in these:
        if left[one]:
            left[one] -= 1
        else:
            found.append(one)
    return found


def _without(these: Sequence[str], gone: Sequence[str]) -> list[str]:
    """Return `these` without as many of each as `gone` has, the later of repeats."""
    left = Counter(gone)
    kept = []
    for one in reversed(these):
        if left[one]:
            left[one] -= 1
        else:
            kept.append(one)
    return kept[::-1]


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
    return [name for name in both if _current_list(a.get(name)) != _current_list(b.get(name))]


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


def _current_list(entry: Entry | None) -> Sequence[str] | None:
    return None if entry is None else entry.descriptors
