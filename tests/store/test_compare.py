"""What is added, dropped and moved adds up to the difference; a store as it was at a time."""

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import StoreError
from fieldmarks.records import APPROVED, Entry
from fieldmarks.store import Store, edits
from fieldmarks.store.compare import as_of, compact, current_lines, dated, diff, merge
from fieldmarks.store.descriptor_effects import DescriptorEffect, write_effects
from fieldmarks.store.edits import Change, Stamp
from fieldmarks.store.reviewing import review

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
    assert [change.to_dict() for change in diff(_current(a), _current(b))] == [
        {"class": "gone", "status": "dropped", "added": [], "dropped": ["x"], "moved": []},
        {"class": "changed", "status": "changed", "added": ["t"], "dropped": ["s"], "moved": ["p"]},
        {"class": "new", "status": "added", "added": [], "dropped": [], "moved": []},
    ]
    assert Change("c", a.get("changed"), b.get("changed")).lines() == ["c", "- s", "+ t", "~ p"]
    assert Change("n", None, b.get("new")).lines() == ["n (added)"]
    assert diff(_current(a), _current(a)) == []


def _current(store: Store) -> dict[str, Entry]:
    return current_lines(str(store.path))


def _on(day: int, hour: int = 12) -> Stamp:
    return Stamp(by="ada", at=datetime(2026, 11, day, hour, tzinfo=UTC).isoformat())


@pytest.fixture
def grown(tmp_path: Path) -> Store:
    """A store that was typed, then changed on the 2nd, 4th, 6th, 8th and 10th."""
    store = Store(tmp_path / "grown.jsonl", create=True)
    store.append(Entry("typed", ("a",)))
    edits.add(store, "frog", ["x"], _on(2))
    edits.add(store, "frog", ["y"], _on(4))
    review(store, ["frog"], APPROVED, _on(6))
    metadata = {"data": "d", "model": "m", "preset": "article", "pictures": 4}
    effects = [DescriptorEffect("x", 0.0, 0.0, 2), DescriptorEffect("y", 0.0, 0.0, 2)]
    write_effects(store, {"frog": effects}, metadata, _on(8))
    edits.remove(store, "frog", _on(10))
    store.append(Entry("later", ("b",)))
    return store


def test_a_store_is_as_it_was(grown: Store) -> None:
    def at(day: int) -> dict[str, Entry]:
        return as_of(grown, datetime(2026, 11, day, tzinfo=UTC))

    assert {name: entry.descriptors for name, entry in at(3).items()} == {"typed": ("a",), "frog": ("x",)}
    assert at(5)["frog"].descriptors == ("x", "y")
    assert at(5)["frog"].review is None
    assert at(7)["frog"].review == APPROVED
    assert [at(day)["frog"].measured is None for day in (7, 9)] == [True, False]
    assert list(at(9)) == ["typed", "frog"]
    assert list(at(11)) == ["typed", "later"]  # which was typed after what was done on the 10th
    assert as_of(grown, datetime.max.replace(tzinfo=UTC)) == _current(grown)
    assert [change.lines() for change in diff(at(5), at(7))] == [["frog (approved)"]]
    assert [change.to_dict()["review"] for change in diff(at(7), at(5))] == [None]


def test_a_time_before_the_first_line_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    edits.add(store, "frog", ["x"], _on(2))
    with pytest.raises(StoreError, match=r"s\.jsonl has nothing from before 2026-11-02T00:00:00\+00:00; its"):
        as_of(store, datetime(2026, 11, 2, tzinfo=UTC))
    assert as_of(Store(tmp_path / "none.jsonl", create=True), datetime(2026, 11, 2, tzinfo=UTC)) == {}


def test_a_date_is_split_off(tmp_path: Path, grown: Store) -> None:
    noon = datetime(2026, 11, 3, 12, tzinfo=UTC)
    assert dated("a@b.jsonl@2026-11-03") == ("a@b.jsonl", noon.replace(hour=0))
    for date in ("2026-11-03T12:00", "2026-11-03 12:00", "2026-11-03T12:00Z", "2026-11-03T13:00+01:00"):
        assert dated(f"s@{date}") == ("s", noon)
    assert dated("hf:me/frogs@2026-11-03") == ("hf:me/frogs@2026-11-03", None)
    assert dated("frogs") == ("frogs", None)
    named = grown.path.rename(tmp_path / "x@2026-11-03")
    assert dated(str(named)) == (str(named), None)
    with pytest.raises(StoreError, match="s@yesterday: no such file, and 'yesterday' is not a date: exp"):
        dated("s@yesterday")


def test_a_compacted_store_keeps_the_order_of_its_classes(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    store.append(*(Entry(name, ("a",)) for name in "abc"))
    before = store.path.read_bytes()
    compact(store)
    assert store.path.read_bytes() == before
    edits.add(store, "a", ["b"], _on(2))
    compact(store)
    assert Store(store.path).names() == ["a", "b", "c"]
    assert len(store.path.read_bytes().splitlines()) == 3
    compact(store)
    assert [Store(store.path).names(), store.names()] == [["a", "b", "c"]] * 2


def test_a_merged_store_has_the_order_of_the_first_then_the_second(tmp_path: Path) -> None:
    a, b = (Store(tmp_path / name, create=True) for name in "ab")
    a.append(Entry("z", ("1",), position=2), Entry("y", ("1",), position=1))
    b.append(
        Entry("p", ("1",), position=1.5), Entry("z", ("2",), position=0.5), Entry("o", ("1",), position=1)
    )
    merge(a, b, tmp_path / "m", "b", _on(2))
    assert Store(tmp_path / "m").names() == ["y", "z", "o", "p"]
    assert Store(tmp_path / "m").history("z")[-1].descriptors == ("2",)
