"""Changes to a store: read anew under the lock, appended once, told as before and after."""

from pathlib import Path

import pytest

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import FAILED, GENERATED, Entry
from fieldmarks.store import Store, changes
from fieldmarks.store.curate import Stamp


@pytest.fixture
def store(tmp_path: Path) -> Store:
    one = Store.open(tmp_path / "store.jsonl", create=True)
    one.append(Entry("frog", ("a", "b"), origin=GENERATED), Entry("toad", ("c",), origin=GENERATED))
    return one


def _lists(store: Store) -> dict[str, list[str]]:
    return {one.name: list(one.descriptors) for one in store.entries()}


def test_a_dry_run_tells_and_writes_nothing(store: Store) -> None:
    before = store.path.read_bytes()
    (change,) = changes.apply(store, changes.drop("frog", ["a"], Stamp()), dry_run=True)
    assert change.before == Entry("frog", ("a", "b"), origin=GENERATED)
    assert change.after is not None
    assert change.after.descriptors == ("b",)
    assert store.path.read_bytes() == before


def test_nothing_to_change_appends_nothing(store: Store) -> None:
    before = store.path.read_bytes()
    assert changes.apply(store, changes.add("frog", ["A"], Stamp())) == []
    assert store.path.read_bytes() == before


def test_a_change_builds_on_what_another_process_wrote(store: Store) -> None:
    Store.open(store.path).append(Entry("frog", ("theirs",), origin="curated"))
    changes.apply(store, changes.add("frog", ["ours"], Stamp()))
    assert _lists(Store.open(store.path))["frog"] == ["theirs", "ours"]


def test_an_edit_of_what_another_changed_meanwhile_is_refused(store: Store) -> None:
    base = changes.in_force(store, "frog")
    Store.open(store.path).append(Entry("frog", ("theirs",), origin="curated"))
    with pytest.raises(
        StoreError, match=r"class 'frog' was changed meanwhile in .*store\.jsonl: edit it anew"
    ):
        changes.apply(store, changes.edit(base, ["mine"], Stamp()))
    assert _lists(Store.open(store.path))["frog"] == ["theirs"]


def test_a_class_begun_again_remembers_what_was_struck(store: Store) -> None:
    changes.apply(store, changes.drop("frog", ["a"], Stamp()))
    changes.apply(store, changes.end("frog", Stamp()))
    assert "frog" not in store
    changes.apply(store, changes.add("frog", ["new"], Stamp()))
    assert store.get("frog") is not None
    assert _lists(store) == {"frog": ["new"], "toad": ["c"]}


def test_renaming_to_a_taken_or_bad_name(store: Store) -> None:
    with pytest.raises(StoreError, match="has a class 'toad' already: choose another name"):
        changes.apply(store, changes.rename("frog", " toad ", Stamp()))
    with pytest.raises(ClassNameError):
        changes.apply(store, changes.rename("frog", "a\nb", Stamp()))
    assert _lists(store) == {"frog": ["a", "b"], "toad": ["c"]}


def test_undo_takes_back_whole_commands_from_the_last_to_the_first(store: Store) -> None:
    states = [_lists(store)]
    for make in (
        changes.add("newt", ["crest"], Stamp()),
        changes.rename("frog", "tree frog", Stamp()),
        changes.drop("toad", ["c"], Stamp()),
    ):
        changes.apply(store, make)
        states.append(_lists(store))
    store.append(Entry("toad", origin=FAILED), Entry("toad", ("late",), origin=GENERATED))  # changes nothing
    for state in reversed(states[:-1]):
        changes.apply(store, changes.undo(None, Stamp()))
        if "toad" in state and state["toad"] == ["c"]:
            assert _lists(store) == state
    with pytest.raises(StoreError, match="there is no change in the store left to undo"):
        changes.apply(store, changes.undo(None, Stamp()))
    assert len(store.history("toad")) == 5, "nothing was removed from the file"


def test_undo_of_one_class(store: Store) -> None:
    changes.apply(store, changes.drop("frog", ["a"], Stamp()))
    changes.apply(store, changes.drop("toad", ["c"], Stamp()))
    changes.apply(store, changes.undo("frog", Stamp()))
    assert _lists(store) == {"frog": ["a", "b"], "toad": []}
    with pytest.raises(StoreError, match="there is no change of class 'frog' left to undo"):
        changes.apply(store, changes.undo("frog", Stamp()))
    with pytest.raises(StoreError, match="has no class 'lion'"):
        changes.apply(store, changes.undo("lion", Stamp()))


def test_a_class_that_is_ended_is_told(store: Store) -> None:
    changes.apply(store, changes.end("frog", Stamp()))
    with pytest.raises(StoreError, match="has no class 'frog'"):
        changes.apply(store, changes.drop("frog", ["a"], Stamp()))
