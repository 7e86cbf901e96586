"""What is added, dropped and moved adds up to the difference."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.records import Entry
from fieldmarks.store import Store
from fieldmarks.store.compare import diff
from fieldmarks.store.edits import Change

LIST = st.lists(st.sampled_from("abcd"), max_size=6).map(tuple)


@given(LIST, LIST)
def test_the_difference_adds_up(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    change = Change("x", Entry("x", before), Entry("x", after))
    assert Counter(before) - Counter(change.dropped) + Counter(change.added) == Counter(after)
    assert not Counter(change.added) & Counter(change.dropped)
    assert Counter(change.moved) <= Counter(before) & Counter(after)
    assert (before == after) == (not change.added and not change.dropped and not change.moved)


@given(st.permutations(range(7)))
def test_as_few_as_can_be_have_moved(order: list[int]) -> None:
    before = tuple(map(str, range(7)))
    after = tuple(map(str, order))
    longest = max(len(rise) for rise in _subsets(order) if all(low < high for low, high in pairwise(rise)))
    assert len(Change("x", Entry("x", before), Entry("x", after)).moved) == len(order) - longest


def _subsets(order: list[int]) -> list[list[int]]:
    return [[number for at, number in enumerate(order) if bits >> at & 1] for bits in range(1 << len(order))]


def test_two_stores(tmp_path: Path) -> None:
    a, b = (Store(tmp_path / name, create=True) for name in "ab")
    a.append(Entry("same", ("x",)), Entry("gone", ("x",)), Entry("changed", ("p", "q", "r", "s")))
    b.append(Entry("new", ()), Entry("changed", ("q", "r", "p", "t")), Entry("same", ("x",), note="n"))
    assert [change.to_dict() for change in diff(a, b)] == [
        {"class": "gone", "status": "dropped", "added": [], "dropped": ["x"], "moved": []},
        {"class": "changed", "status": "changed", "added": ["t"], "dropped": ["s"], "moved": ["p"]},
        {"class": "new", "status": "added", "added": [], "dropped": [], "moved": []},
    ]
    assert Change("c", a.get("changed"), b.get("changed")).lines() == ["c", "- s", "+ t", "~ p"]
    assert Change("n", None, b.get("new")).lines() == ["n (added)"]
    assert diff(a, a) == []
