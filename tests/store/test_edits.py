"""Changes to a store: read anew under the lock, appended once, told as before and after."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import APPROVED, FAILED, GENERATED, IMPORTED, Entry
from fieldmarks.store import Store, edits, exchange, reviewing, undoing
from fieldmarks.store.compare import compact
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lines import current


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(Entry("frog", ("a", "b"), origin=GENERATED), Entry("toad", ("c",), origin=GENERATED))
    return store


def _lists(store: Store) -> dict[str, list[str]]:
    return {entry.name: list(entry.descriptors) for entry in store.entries()}


def test_a_dry_run_tells_and_writes_nothing(store: Store) -> None:
    before = store.path.read_bytes()
    (change,) = edits.drop(store, "frog", ["a"], Stamp(), dry_run=True)
    assert change.before == Entry("frog", ("a", "b"), origin=GENERATED)
    assert change.after is not None
    assert change.after.descriptors == ("b",)
    assert store.path.read_bytes() == before


def test_nothing_to_change_appends_nothing(store: Store) -> None:
    before = store.path.read_bytes()
    assert edits.add(store, "frog", ["A"], Stamp()) == []
    assert store.path.read_bytes() == before


def test_a_change_builds_on_what_another_process_wrote(store: Store) -> None:
    Store(store.path).append(Entry("frog", ("theirs",), origin="curated"))
    edits.add(store, "frog", ["ours"], Stamp())
    assert _lists(Store(store.path))["frog"] == ["theirs", "ours"]


def test_an_edit_of_what_another_changed_meanwhile_is_refused(store: Store) -> None:
    base = edits.current_entry(store, "frog")
    Store(store.path).append(Entry("frog", ("theirs",), origin="curated"))
    with pytest.raises(
        StoreError, match=r"class 'frog' changed in .*store\.jsonl while you were editing: try again"
    ):
        edits.edit(store, [(base, ["mine"])], Stamp())
    assert _lists(Store(store.path))["frog"] == ["theirs"]


def test_of_several_classes_only_those_edited_must_be_as_they_were(store: Store) -> None:
    frog, toad = store.entries()
    Store(store.path).append(Entry("toad", ("theirs",), origin="curated"))
    changes = edits.edit(store, [(frog, ["mine"]), (toad, toad.descriptors)], Stamp())
    assert [change.name for change in changes] == ["frog"]
    assert _lists(store) == {"frog": ["mine"], "toad": ["theirs"]}
    before = store.path.read_bytes()
    frog, _ = store.entries()
    with pytest.raises(StoreError, match=r"class 'toad' changed in .* while you were editing: try again"):
        edits.edit(store, [(frog, ["more"]), (toad, ["mine"])], Stamp())
    assert store.path.read_bytes() == before


def test_a_class_begun_again_remembers_what_was_struck(store: Store) -> None:
    edits.drop(store, "frog", ["a"], Stamp())
    edits.remove(store, "frog", Stamp())
    assert "frog" not in store
    edits.add(store, "frog", ["new"], Stamp())
    assert store.get("frog") is not None
    assert _lists(store) == {"frog": ["new"], "toad": ["c"]}


def test_renaming_to_a_taken_or_bad_name(store: Store) -> None:
    with pytest.raises(StoreError, match="already has a class 'toad': choose another name"):
        edits.rename(store, "frog", " toad ", Stamp())
    with pytest.raises(ClassNameError):
        edits.rename(store, "frog", "a\nb", Stamp())
    assert _lists(store) == {"frog": ["a", "b"], "toad": ["c"]}


def test_undo_takes_back_whole_commands_from_the_last_to_the_first(store: Store) -> None:
    states = [_lists(store)]
    edits.add(store, "newt", ["crest"], Stamp())
    states.append(_lists(store))
    edits.rename(store, "frog", "tree frog", Stamp())
    states.append(_lists(store))
    edits.drop(store, "toad", ["c"], Stamp())
    states.append(_lists(store))
    store.append(Entry("toad", origin=FAILED), Entry("toad", ("late",), origin=GENERATED))  # changes nothing
    for state in reversed(states[:-1]):
        undoing.undo(store, None, Stamp())
        if "toad" in state and state["toad"] == ["c"]:
            assert _lists(store) == state
    with pytest.raises(StoreError, match=r"store\.jsonl: nothing left to undo"):
        undoing.undo(store, None, Stamp())
    assert len(store.history("toad")) == 5, "nothing was removed from the file"


def test_undo_of_one_class(store: Store) -> None:
    edits.drop(store, "frog", ["a"], Stamp())
    edits.drop(store, "toad", ["c"], Stamp())
    undoing.undo(store, "frog", Stamp())
    assert _lists(store) == {"frog": ["a", "b"], "toad": []}
    with pytest.raises(StoreError, match=r"store\.jsonl, class 'frog': nothing left to undo"):
        undoing.undo(store, "frog", Stamp())
    with pytest.raises(StoreError, match="has no class 'lion'"):
        undoing.undo(store, "lion", Stamp())


def test_redo_of_whole_commands_and_of_one_class(store: Store) -> None:
    edits.rename(store, "frog", "tree frog", Stamp())
    edits.drop(store, "toad", ["c"], Stamp())
    last = _lists(store)
    undoing.undo(store, None, Stamp())
    undoing.undo(store, None, Stamp())
    assert list(undoing.lines_to_redo(store, None)) == ["frog", "tree frog"]
    undoing.redo(store, None, Stamp())
    assert _lists(store) == {"toad": ["c"], "tree frog": ["a", "b"]}
    undoing.redo(store, "toad", Stamp())
    assert _lists(store) == last
    with pytest.raises(StoreError, match=r"store\.jsonl: nothing to redo"):
        undoing.redo(store, None, Stamp())
    with pytest.raises(StoreError, match=r"store\.jsonl, class 'toad': nothing to redo"):
        undoing.redo(store, "toad", Stamp())
    with pytest.raises(StoreError, match="has no class 'lion'"):
        undoing.redo(store, "lion", Stamp())


def test_a_command_on_another_class_ends_redo_of_the_store_even_if_undone_and_redone(store: Store) -> None:
    edits.drop(store, "frog", ["a"], Stamp())
    undoing.undo(store, None, Stamp())
    edits.add(store, "toad", ["d"], Stamp())
    for _ in range(2):
        with pytest.raises(StoreError, match="nothing to redo"):
            undoing.redo(store, None, Stamp())
        undoing.undo(store, "toad", Stamp())
        undoing.redo(store, None, Stamp())
    assert _lists(store) == {"frog": ["a", "b"], "toad": ["c", "d"]}


def test_undo_of_an_import_over_a_persons_line_brings_that_back_in_one_step(store: Store) -> None:
    edits.add(store, "frog", ["mine"], Stamp())
    answer = Entry("frog", ("theirs",), origin=GENERATED, at="2026-01-01T00:00:00+00:00")
    exchange.import_file(store, [answer], Stamp(), overwrite=True)
    assert _lists(store)["frog"] == ["theirs"]
    undoing.undo(store, None, Stamp())
    assert _lists(store)["frog"] == ["a", "b", "mine"]
    undoing.redo(store, None, Stamp())
    assert _lists(store)["frog"] == ["theirs"]
    assert store.get("frog") == current(store.history("frog"))


def test_an_imported_line_that_was_an_undo_elsewhere_is_a_change_here(store: Store) -> None:
    edits.add(store, "frog", ["mine"], Stamp())
    exchange.import_file(store, [Entry("frog", ("x",), origin="curated", undo=True)], Stamp(), overwrite=True)
    undoing.undo(store, "frog", Stamp())
    assert _lists(store)["frog"] == ["a", "b", "mine"]


NAMES = ("frog", "toad", "newt")


class _Commands:
    """A store under random commands, with the content of its classes before each."""

    def __init__(self, file: Path) -> None:
        self.store = Store(file, create=True)
        self.store.append(Entry("frog", ("a", "b"), origin=GENERATED), Entry("toad", ("c",)))
        self.count = 0

    def run(self, verb: str, name: str) -> bool:
        """Run a command and say whether it changed anything."""
        self.count += 1
        new = f"descriptor {self.count}"
        now, history = self.store.get(name), self.store.history(name)
        changes: list[edits.Change] = []
        if verb == "import":
            lines = [Entry(other, (new,), origin=GENERATED) for other in NAMES if other != name]
            return bool(exchange.import_file(self.store, lines, Stamp(), overwrite=True))
        if verb == "add":
            changes = edits.add(self.store, name, [new], Stamp())
        elif verb == "restore" and history:
            number = 1 + self.count % len(history)
            if not history[number - 1].removed:
                changes = undoing.restore(self.store, name, number, Stamp())
        elif now is not None and verb == "drop" and now.descriptors:
            changes = edits.drop(self.store, name, ["1"], Stamp())
        elif now is not None and verb == "review":
            changes = reviewing.review(self.store, [name], APPROVED, Stamp())
        elif now is not None and verb == "end":
            changes = edits.remove(self.store, name, Stamp())
        elif now is not None and verb == "rename":
            changes = edits.rename(self.store, name, f"{name} {self.count}", Stamp())
        return bool(changes)

    def content(self) -> dict[str, Entry]:
        """Return the current line of every class without what tells of the command."""
        plain = {
            "v": None,
            "by": None,
            "at": None,
            "note": None,
            "change": None,
            "undo": False,
            "redo": False,
            "compacted": False,
            "position": None,
        }
        return {entry.name: replace(entry, **plain) for entry in self.store.entries()}  # type: ignore[arg-type]


VERB_NAMES = ("add", "drop", "end", "rename", "import", "restore")
VERBS = st.sampled_from(VERB_NAMES)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(st.tuples(VERBS, st.sampled_from(NAMES)), max_size=8), data=st.data())
def test_undo_and_redo_are_inverse_on_the_whole_store(
    tmp_path: Path, commands: list[tuple[str, str]], data: st.DataObject
) -> None:
    file = tmp_path / "law.jsonl"
    file.unlink(missing_ok=True)
    world = _Commands(file)
    contents = [world.content()]
    for verb, name in commands:
        if world.run(verb, name):
            contents.append(world.content())
    count = data.draw(st.integers(0, len(contents) - 1))
    for content in contents[::-1][1 : 1 + count]:
        undoing.undo(world.store, None, Stamp())
        assert world.content() == content
        undoing.redo(world.store, None, Stamp())
        undoing.undo(world.store, None, Stamp())
        assert world.content() == content, "redo, then undo"
    for content in contents[len(contents) - count :]:
        undoing.redo(world.store, None, Stamp())
        assert world.content() == content
    with pytest.raises(StoreError, match="nothing to redo"):
        undoing.redo(world.store, None, Stamp())
    for content in contents[-2::-1]:
        undoing.undo(world.store, None, Stamp())
        assert world.content() == content
    with pytest.raises(StoreError, match="nothing left to undo"):
        undoing.undo(world.store, None, Stamp())
    lines = file.read_bytes().splitlines(keepends=True)
    assert [line for line, _ in Store(file).lines()] == [line.rstrip(b"\n") for line in lines]


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commands=st.lists(
        st.tuples(
            st.sampled_from([*["undo", "redo", "compact", "compact", "review"], *VERB_NAMES]),
            st.sampled_from(NAMES),
        ),
        max_size=12,
    )
)
def test_undo_goes_back_exactly_or_refuses_wherever_the_store_was_compacted(
    tmp_path: Path, commands: list[tuple[str, str]]
) -> None:
    file = tmp_path / "law.jsonl"
    file.unlink(missing_ok=True)
    world = _Commands(file)
    before: list[dict[str, Entry]] = []  # what each undo is to bring back, the next last
    after: list[dict[str, Entry]] = []  # and each redo
    has_lost = False  # lines to compacting
    for verb, name in [*commands, *[("undo", "")] * 4]:
        content = world.content()
        if verb == "compact":
            done = compact(world.store)
            has_lost = has_lost or done.after < done.before
            assert world.content() == content
        elif verb in ("undo", "redo"):
            expected, other = (before, after) if verb == "undo" else (after, before)
            run = undoing.undo if verb == "undo" else undoing.redo
            try:
                run(world.store, None, Stamp())
            except StoreError:
                assert not expected or has_lost
                assert world.content() == content
                if expected:
                    before, after = [], []  # what is gone stays gone, and so does all before it
            else:
                assert expected, "there is nothing to go back to"
                other.append(content)
                assert world.content() == expected.pop()
        elif world.run(verb, name):
            before, after = [*before, content], []


@pytest.mark.parametrize("is_marked", [True, False], ids=["now", "before version 0.2"])
@pytest.mark.parametrize(
    "command",
    [
        lambda store: edits.drop(store, "frog", ["a"], Stamp()),
        lambda store: edits.rename(store, "frog", "tree frog", Stamp()),
        lambda store: edits.rename(store, "frog", "tree frog", Stamp(note="as the museum has it")),
        lambda store: edits.edit(store, [(store.get("frog"), ("b", "c"))], Stamp()),
    ],
)
def test_undo_never_removes_a_class_whose_earlier_lines_were_compacted(
    tmp_path: Path, command: Callable[[Store], object], is_marked: bool
) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    exchange.import_file(store, [Entry("toad", ("c",), origin=IMPORTED)], Stamp())
    store.append(Entry("frog", ("a", "b"), model="m", origin=IMPORTED))
    command(store)
    compact(store)
    if not is_marked:
        store.path.write_bytes(store.path.read_bytes().replace(b',"compacted":true', b""))
    store = Store(store.path)
    there = store.path.read_bytes()
    changed = next(name for name in store.names() if name != "toad")
    for name in (None, changed):
        with pytest.raises(
            StoreError, match=f"class {changed!r}: what was there before its last change is gone"
        ):
            undoing.undo(store, name, Stamp())
        with pytest.raises(StoreError, match="nothing to redo"):
            undoing.redo(store, name, Stamp())
    assert store.path.read_bytes() == there
    edits.add(store, changed, ["new"], Stamp())
    undoing.undo(store, None, Stamp())
    assert store.path.read_bytes().startswith(there)
    assert "new" not in _lists(store)[changed]


def test_redo_says_where_what_was_undone_is_gone(store: Store) -> None:
    edits.drop(store, "frog", ["a"], Stamp())
    undoing.undo(store, None, Stamp())
    compact(store)
    with pytest.raises(
        StoreError, match="class 'frog': what the last undo reverted is gone since the store was"
    ):
        undoing.redo(store, "frog", Stamp())


def test_an_imported_list_with_a_past_elsewhere_can_be_undone(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    entry = Entry("frog", ("a",), origin="curated", rejected=("b",), note="renamed from 'toad'", at="2026")
    exchange.import_file(store, [entry], Stamp())
    for _ in range(2):
        undoing.undo(store, None, Stamp())
        assert _lists(store) == {}
        undoing.redo(store, None, Stamp())
    assert _lists(store) == {"frog": ["a"]}


def test_a_class_that_is_ended_is_told(store: Store) -> None:
    edits.remove(store, "frog", Stamp())
    with pytest.raises(StoreError, match="class 'frog' has been removed; `fieldmarks store history "):
        edits.drop(store, "frog", ["a"], Stamp())
