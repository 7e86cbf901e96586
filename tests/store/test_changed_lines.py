"""A person's changes are pure: from a class's current line to the line that is appended."""

from dataclasses import replace

import pytest

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, GENERATED, Entry
from fieldmarks.store import edits
from fieldmarks.store.edits import Stamp

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
    ("which", "rest", "rejected"),
    [
        (["webbed feet"], ("Wide mouth", "long tongue"), ("croaks", "webbed feet")),
        (["2"], ("webbed feet", "long tongue"), ("croaks", "Wide mouth")),
        (["wide mouth", "1", "3"], (), ("croaks", "webbed feet", "Wide mouth", "long tongue")),
    ],
)
def test_dropping_by_text_or_number(
    which: list[str], rest: tuple[str, ...], rejected: tuple[str, ...]
) -> None:
    line = edits.dropped(FROG, which, STAMP)
    assert (line.descriptors, line.rejected, line.origin, line.answer) == (rest, rejected, CURATED, None)


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


def test_finding_a_class_suggests_the_closest() -> None:
    with pytest.raises(
        StoreError, match=r"^here has no class 'tre frog': did you mean 'tree frog' or 'frog'\?$"
    ):
        edits.find(["tree frog", "frog", "lion"], "tre frog", "here")
    with pytest.raises(StoreError, match=r"^here has no class 'x': `fieldmarks store list here` shows them$"):
        edits.find([], "x", "here")
