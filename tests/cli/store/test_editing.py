"""A class as a text and back: nothing is lost on the way, whatever its descriptors hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.cli.store.editing import EDITOR_HELP, descriptors_of, editor_text
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.lint import lint

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["# no", '"quoted"', " a ", "", "\\", "a\nb"]
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# all gone\n", "no descriptor is left"),
        ('\n"open\n', "line 2: .*is not JSON"),
        ("a\x1b\n", "line 1: .*control"),
    ],
)
def test_a_broken_text(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        descriptors_of(text, Entry("frog", ("a",)))
