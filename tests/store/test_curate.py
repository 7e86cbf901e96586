"""A person's changes are pure: every one is a new line, and undoing it gives back what was."""

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
from fieldmarks.text import comparable

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


def test_adding_keeps_where_the_class_came_from_and_strangers_keys() -> None:
    assert edits.added(FROG, ["  green   skin ", "WIDE mouth!", "Green-skin"], STAMP) == Entry(
        "frog",
        ("webbed feet", "Wide mouth", "long tongue", "green skin"),
        v=1,
        origin=CURATED,
        model="m",
        prompt={"name": "article"},
        rejected=("croaks",),
        change="c1",
        note="why",
        by="ada",
        at="2026-01-02T03:04:05+00:00",
        extra={"theirs": 1},
    )


def test_adding_what_is_there_is_no_change_and_what_was_struck_is_struck_no_more() -> None:
    assert edits.added(FROG, ["Webbed, feet"], STAMP) is None
    added = edits.added(FROG, ["Croaks."], STAMP)
    assert added is not None
    assert (added.descriptors[-1], added.rejected) == ("Croaks.", ())


@pytest.mark.parametrize(
    ("which", "kept", "rejected"),
    [
        (["webbed feet"], ("Wide mouth", "long tongue"), ("croaks", "webbed feet")),
        (["2"], ("webbed feet", "long tongue"), ("croaks", "Wide mouth")),
        (["wide mouth", "1", "3"], (), ("croaks", "webbed feet", "Wide mouth", "long tongue")),
    ],
)
def test_dropping_by_text_or_number(
    which: list[str], kept: tuple[str, ...], rejected: tuple[str, ...]
) -> None:
    line = edits.dropped(FROG, which, STAMP)
    assert (line.descriptors, line.rejected, line.origin, line.answer) == (kept, rejected, CURATED, None)


def test_a_descriptor_that_is_a_number_goes_before_a_position() -> None:
    assert edits.dropped(Entry("x", ("a", "1")), ["1"], STAMP).descriptors == ("a",)


@pytest.mark.parametrize("which", ["0", "4", "-1", "99999999999999999999", "²", "webed feet", ""])
def test_dropping_what_is_not_there(which: str) -> None:
    with pytest.raises(StoreError, match="class 'frog' has no descriptor"):
        edits.dropped(FROG, [which], STAMP)


@pytest.mark.parametrize("text", ["", " \t", "a\x1bb", "x" * 1001, "\ud800"])
def test_descriptors_that_cannot_be_used(text: str) -> None:
    with pytest.raises(StoreError, match="descriptor"):
        edits.descriptor(text)


def test_editing_strikes_what_is_gone() -> None:
    line = edits.edited(FROG, ["long tongue", "webbed feet", "wide mouth"], STAMP)
    assert line is not None
    assert (line.descriptors, line.rejected) == (("long tongue", "webbed feet", "wide mouth"), ("croaks",))
    line = edits.edited(FROG, ["long tongue"], STAMP)
    assert line is not None
    assert line.rejected == ("croaks", "webbed feet", "Wide mouth")
    assert edits.edited(FROG, list(FROG.descriptors), STAMP) is None


def test_renaming_ends_one_class_and_begins_another() -> None:
    ended, begun = edits.renamed(FROG, "toad", replace(STAMP, note=None))
    assert (ended.name, ended.removed, ended.note) == ("frog", True, "renamed to 'toad'")
    assert (begun.name, begun.descriptors, begun.note) == ("toad", FROG.descriptors, "renamed from 'frog'")
    assert ended.change == begun.change == "c1"


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
        ([Entry("frog", origin=FAILED), FROG], 1, "line 1 of class 'frog' is a failed answer without"),
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


@given(st.text(), st.text())
def test_comparable_is_idempotent_and_keeps_letters(a: str, b: str) -> None:
    assert comparable(comparable(a)) == comparable(a)
    if comparable(a) == comparable(b):
        assert [c for c in a.casefold() if c.isascii() and c.isalnum()] == [
            c for c in b.casefold() if c.isascii() and c.isalnum()
        ] or not (a.isascii() and b.isascii())


def test_vowel_signs_are_letters() -> None:
    assert comparable("कि") != comparable("का")


def test_finding_a_class_suggests_the_closest() -> None:
    with pytest.raises(
        StoreError, match=r"^here has no class 'tre frog': did you mean 'tree frog' or 'frog'\?$"
    ):
        edits.find(["tree frog", "frog", "lion"], "tre frog", "here")
    with pytest.raises(StoreError, match=r"^here has no class 'x': `fieldmarks store list` shows them$"):
        edits.find([], "x", "here")
