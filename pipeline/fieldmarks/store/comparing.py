"""What differs between two stores, or two lines of a class: added, dropped, moved. Pure functions."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fieldmarks.records import Entry
from fieldmarks.store.jsonl import Store


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
