"""Undo, redo and restore are appended lines, and give back what was."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, Entry
from fieldmarks.store import edits, undoing
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lines import current

STAMP = Stamp(by="ada", note="why", at="2026-01-02T03:04:05+00:00", change="c1")


FROG = Entry(
    "frog",
    ("webbed feet", "Wide mouth", "long tongue"),
    origin=GENERATED,
    model="m",
    prompt={"name": "article"},
    answer="- webbed feet",
    usage={"total_tokens": 9},
    rejected=("croaks",),
    extra={"theirs": 1},
)


Step = Callable[[Entry], Entry | None]


STEPS: dict[str, Step] = {
    "add": lambda entry: edits.added(entry, [f"trait {len(entry.descriptors)}"], Stamp()),
    "drop": lambda entry: edits.dropped(entry, ["1"], Stamp()) if entry.descriptors else None,
    "edit": lambda entry: edits.edited(entry, [*entry.descriptors[::-1], "edited"], Stamp()),
    "end": lambda entry: edits.removed(entry, Stamp()),
    "generate": lambda entry: Entry(
        entry.name, (*entry.descriptors, "generated"), origin=GENERATED, answer="- x"
    ),
}


def _history(steps: list[str]) -> list[Entry]:
    history = [FROG]
    for step in steps:
        line = STEPS[step](current(history) or Entry("frog"))
        if line is not None:
            history.append(line)
    return history


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=8))
def test_undo_gives_back_every_state_there_was(steps: list[str]) -> None:
    history = [FROG]
    states = [current(history)]
    for step in steps:
        now = current(history) or Entry("frog")
        line = STEPS[step](now)
        if line is not None:
            history.append(line)
            if current(history) is not states[-1]:
                states.append(current(history))
    for state in reversed(states[:-1]):
        line = undoing.undone(history, STAMP)
        assert line is not None
        history.append(line)
        now_current = current(history)
        assert (now_current and _content(now_current)) == (state and _content(state))
    assert undoing.undone(history, STAMP) is None


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=8), st.integers(1, 9))
def test_redo_gives_back_what_undo_took_in_the_other_order(steps: list[str], count: int) -> None:
    history = _history(steps)
    states = []
    for _ in range(count):
        state = current(history)
        if (line := undoing.undone(history, Stamp())) is not None:
            states.append(state)
            history.append(line)
    for state in reversed(states):
        line = undoing.redone(history, Stamp())
        assert line is not None
        history.append(line)
        now = current(history)
        assert (now and _content(now)) == (state and _content(state))
    assert undoing.redone(history, Stamp()) is None


@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_change_after_an_undo_ends_redo_and_a_failed_answer_does_not(step: str) -> None:
    history = _history(["add", "add"])
    undone = undoing.undone(history, Stamp())
    assert undone is not None
    history += [undone, Entry("frog", origin=FAILED)]
    assert undoing.redone(history, Stamp()) is not None
    new = Entry("frog", ("new",)) if step == "generate" else STEPS[step](undone)
    assert new is not None
    assert undoing.redone([*history, new], Stamp()) is None


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=8), st.data())
def test_restoring_a_line_makes_it_a_persons_and_undo_gives_back_what_was(
    steps: list[str], data: st.DataObject
) -> None:
    history = _history(steps)
    before = current(history)
    number = data.draw(st.integers(1, len(history)))
    if history[number - 1].removed:
        with pytest.raises(StoreError, match=f"line {number} of class 'frog' removed the class"):
            undoing.restored(history, number, Stamp())
        return
    line = undoing.restored(history, number, Stamp())
    if line is None:
        assert history[number - 1] is before
        return
    assert (line.origin, line.note) == (CURATED, f"restored line {number}")
    assert (line.descriptors, line.rejected) == (
        history[number - 1].descriptors,
        history[number - 1].rejected,
    )
    history.append(line)
    assert current(history) is line
    back = undoing.undone(history, Stamp())
    assert back is not None
    now = current([*history, back])
    assert (now and _content(now)) == (before and _content(before))


@pytest.mark.parametrize(
    ("history", "number", "message"),
    [
        ([FROG], 0, "class 'frog' has line 1 only, no line 0"),
        ([FROG], 2, "class 'frog' has line 1 only, no line 2"),
        ([FROG, FROG, FROG], 4, "class 'frog' has lines 1–3, no line 4"),
        ([Entry("frog", origin=FAILED), FROG], 1, "line 1 of class 'frog' is a failed answer and has no"),
    ],
)
def test_lines_that_cannot_be_restored(history: list[Entry], number: int, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        undoing.restored(history, number, STAMP)


def _content(entry: Entry) -> Entry:
    return replace(entry, v=None, by=None, at=None, note=None, change=None, undo=False, redo=False)


def test_undo_of_an_answer_brought_back_lets_newer_answers_into_force() -> None:
    changed = edits.added(FROG, ["green"], STAMP)
    assert changed is not None
    back = undoing.undone([FROG, changed], STAMP)
    assert back is not None
    newer = Entry("frog", ("newer",), origin=GENERATED)
    assert current([FROG, changed, back]) is back
    assert current([FROG, changed, back, newer]) is newer


def test_undo_ends_a_class_that_a_command_began_and_no_other() -> None:
    assert undoing.undone([], STAMP) is None
    assert undoing.undone([FROG], STAMP) is None
    begun = edits.added(Entry("newt"), ["crest"], STAMP)
    assert begun is not None
    ended = undoing.undone([begun], STAMP)
    assert ended is not None
    assert (ended.removed, ended.undo) == (True, True)
