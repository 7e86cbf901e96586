"""The order of classes: of their lists, whoever was answered first, and of first appearance else."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.records import Entry
from fieldmarks.store import Store, edits
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lines import ordered, positions_of

NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, max_size=12)


@given(NAMES, st.randoms())
def test_answers_in_any_order_are_in_the_order_of_the_list(names: list[str], random: object) -> None:
    arrived = list(names)
    random.shuffle(arrived)  # type: ignore[attr-defined]
    assert ordered(arrived, positions_of(names, {})) == names


@given(NAMES, NAMES, st.randoms())
def test_two_lists(first: list[str], second: list[str], random: object) -> None:
    """The first keeps its order; what is new stands behind its neighbour in the second."""
    known = positions_of(first, {})
    both = {**known, **positions_of(second, known)}
    assert {name: both[name] for name in first} == known
    arrived = [*first, *(name for name in second if name not in known)]
    random.shuffle(arrived)  # type: ignore[attr-defined]
    whole = ordered(arrived, both)
    assert [name for name in whole if name in known] == first
    for place, name in enumerate(second):
        if name not in known and place:
            assert whole.index(name) == whole.index(second[place - 1]) + 1
        elif name not in known and (neighbours := [each for each in second if each in known]):
            assert whole.index(name) < whole.index(neighbours[0])


@given(NAMES, st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(-3, 3)))
def test_what_is_written_in_its_order_stays_in_it(names: list[str], positions: dict[str, float]) -> None:
    once = ordered(names, positions)
    assert sorted(once) == sorted(names)
    keyed = [name for name in once if name in positions]
    assert [positions[name] for name in keyed] == sorted(positions[name] for name in keyed)
    if all(positions.get(name, 1) >= 0 for name in names):
        assert ordered(once, positions) == once


def test_without_positions_the_order_is_that_of_first_appearance() -> None:
    assert ordered(["c", "a", "b"], {}) == ["c", "a", "b"]


def test_an_interrupted_run_and_a_longer_list() -> None:
    known = positions_of(list("abcdef"), {})
    assert known == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}
    stored = {name: known[name] for name in "adf"}
    assert positions_of(list("abcdef"), stored) == known
    assert positions_of(["new", *"abcd"], stored) == {"new": 0.5, "a": 1, "b": 2, "c": 3, "d": 4}
    assert positions_of(list("xy"), stored) == {"x": 7, "y": 8}
    assert positions_of(list("fxa"), stored)["x"] == 7


def test_the_store_is_in_that_order(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = Store(path, create=True)
    store.append(Entry("newt", ("x",), position=2), Entry("frog", ("x",), position=1))
    path.write_text(path.read_text() + '{"class": "typed", "descriptors": [], "position": "top"}\n')
    for opened in (store, Store(path)):
        opened.append(Entry(f"own {opened is store}", ("x",)))
        assert opened.names()[:3] == ["frog", "newt", "typed"]
        assert [entry.name for entry in opened.entries()] == opened.names() == opened.all_names()
    edits.rename(store, "frog", "tree frog", Stamp())
    edits.add(store, "newt", ["crest"], Stamp())
    assert store.names()[:2] == ["tree frog", "newt"]
    assert Store(path).get("typed").extra == {"position": "top"}  # type: ignore[union-attr]
