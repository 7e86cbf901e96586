"""A class as a text and back: nothing is lost on the way, whatever its descriptors hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.cli.store.editing import (
    EDITOR_HELP,
    SEVERAL_HELP,
    descriptors_of,
    editor_text,
    editor_text_of_several,
    lists_of,
)
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.lint import by_class, lint

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["# no", "=== no", "===", '"quoted"', " a ", "", "\\", "a\nb"]
)


@pytest.mark.slow
@given(st.lists(TEXT, min_size=1))
def test_an_untouched_text_gives_the_same_list(descriptors: list[str]) -> None:
    entry = Entry("frog", tuple(descriptors))
    assert descriptors_of(editor_text(entry, lint([entry])), entry) == descriptors


def test_the_text_that_a_person_sees() -> None:
    entry = Entry("frog", ("wide mouth", "may croak", "# one"), origin="generated", model="m\x1b", at="2026")
    assert editor_text(entry, lint([entry])).splitlines() == [
        "# frog",
        "# generated, m , 2026",
        *EDITOR_HELP.splitlines(),
        "",
        "wide mouth",
        "# FM302 it says 'may'",
        "may croak",
        "# FM204 should read 'one'",
        '"# one"',
    ]


def test_what_a_person_types_is_tidied() -> None:
    entry = Entry("frog", ("keep  this",))
    assert descriptors_of("# x\n\n  new   one \r\nkeep  this\n", entry) == ["new one", "keep  this"]


def test_the_heading_of_the_class_itself_is_no_descriptor() -> None:
    assert descriptors_of("=== frog\nwide mouth\n", Entry("frog", ("a",))) == ["wide mouth"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# all gone\n", "no descriptor is left"),
        ('\n"open\n', "line 2: .*is not JSON"),
        ("a\x1b\n", "line 1: .*control"),
        ("a\n=== badger\nb\n", "line 2: '=== badger' is a heading: only class 'frog' is edited; nothing was"),
    ],
)
def test_a_broken_text(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        descriptors_of(text, Entry("frog", ("a",)))


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ["a  b", '"q"', "==="]
)


@pytest.mark.slow
@given(st.dictionaries(NAMES, st.lists(TEXT)))
def test_an_untouched_text_of_several_gives_the_same_lists(classes: dict[str, list[str]]) -> None:
    entries = [Entry(name, tuple(texts)) for name, texts in classes.items()]
    text = editor_text_of_several(entries, by_class(lint(entries)))
    lists = lists_of(text, entries)
    assert lists == [(entry, list(entry.descriptors)) for entry in entries]


FROG, TOAD = Entry("frog", ("wide mouth", "=== x")), Entry("toad", ("may croak",))


def test_the_text_of_several_that_a_person_sees() -> None:
    assert editor_text_of_several([FROG, TOAD], by_class(lint([TOAD]))).splitlines() == [
        *EDITOR_HELP.splitlines(),
        *SEVERAL_HELP.splitlines(),
        "",
        "=== frog",
        "wide mouth",
        '"=== x"',
        "",
        "=== toad",
        "# FM302 it says 'may'",
        "may croak",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=== frog\na\n=== tod\nb\n", "line 3: '=== tod' is not one of the headings; nothing was changed"),
        ("=== frog\na\n=== toad\nb\n=== frog\nc\n", "line 5: heading '=== frog' is there twice"),
        ("x\n=== frog\na\n=== toad\nb\n", "line 1: 'x' stands above all headings"),
        ("=== frog\na\nb\n", "heading '=== toad' is missing: put it back"),
        ('=== frog\na\n=== toad\n# c\n"open\n', "line 5: .*is not JSON"),
        ("=== frog\n=== toad\nb\n", "no descriptor is left of class 'frog'"),
    ],
)
def test_a_broken_text_of_several(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        lists_of(text, [FROG, TOAD])


def test_classes_may_change_places_in_a_text_of_several() -> None:
    lists = lists_of("=== toad\n b  c \r\n  === frog \n# a\nwide mouth\n", [FROG, TOAD])
    assert lists == [(FROG, ["wide mouth"]), (TOAD, ["b c"])]
