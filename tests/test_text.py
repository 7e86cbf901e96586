"""The article before a noun, and templates filled in one pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import PromptError
from fieldmarks.text import article, columns, comparable, counted, cut, fill, folded, printable

AN = [
    *["apple", "egg", "ibis", "otter", "umbrella", "hour", "hourglass", "honest", "heir", "X-ray", "SUV"],
    *["MRI", "F-16", "uninvited", "urn", "usher", "8-ball", "18-wheeler"],
]
A = [
    *["dog", "unicorn", "uniform", "European", "ewe", "one-eyed", "ukulele", "user", "UFO", "utility"],
    *["house", "heron", "unit", "xylophone", "FROG", "yak", "1-cent"],
]


@pytest.mark.parametrize("name", AN)
def test_an(name: str) -> None:
    assert article(name) == "an"


@pytest.mark.parametrize("name", A)
def test_a(name: str) -> None:
    assert article(name) == "a"


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 30))
def test_a_text_that_is_cut_fits(text: str, width: int) -> None:
    shown = cut(text, width)
    assert columns(shown) <= width
    assert (shown == text) == (columns(text) <= width)


PRINTED = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"]), min_size=1)


@pytest.mark.slow
@given(st.lists(PRINTED).map(" ".join), st.integers(2, 30))
def test_a_text_that_is_folded_fits_and_is_whole(text: str, width: int) -> None:
    lines = folded(text, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_folding_breaks_between_words_and_within_longer_ones() -> None:
    assert folded("short", 80) == ["short"]
    assert folded("long, drooping ears covered in wavy hair", 20) == [
        "long, drooping ears",
        "covered in wavy hair",
    ]
    assert folded("a supercalifragilistic b", 10) == ["a", "supercalif", "ragilistic", "b"]


def test_long_names_keep_their_end() -> None:
    assert [cut(f"species number {n}", 14) for n in (7, 63421, 63422)] == [
        "species n…er 7",
        "species n…3421",
        "species n…3422",
    ]


def test_outer_space_and_nothing() -> None:
    assert article("  apple ") == "an"
    assert article("") == "a"


def test_every_field_is_filled() -> None:
    values = {"class": "tree frog", "article": "a"}
    assert fill("{article} {class}, {class}", values) == "a tree frog, tree frog"


@given(st.text(), st.text())
def test_values_are_never_read_as_templates(name: str, descriptor: str) -> None:
    filled = fill("{class}|{descriptor}", {"class": name, "descriptor": descriptor})
    assert filled == name + "|" + descriptor


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(PromptError) as caught:
        fill("a {clas}", {"class": "x", "descriptor": "y"})
    assert str(caught.value) == "{clas} in 'a {clas}' is unknown: expected {class}, {descriptor}"


def test_other_braces_are_text() -> None:
    assert fill('{"json": {}} {class} {0}', {"class": "x"}) == '{"json": {}} x {0}'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tree frog", "tree frog"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\tand\x9b", "two\\nlines\\tand\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("Größe 雨蛙 👩‍🚀", "Größe 雨蛙 👩‍🚀"),
    ],
)
def test_a_terminal_cannot_act_on_a_printed_text(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "thing", "said"),
    [
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (0, "picture", "0 pictures"),
        (1000, "x", "1,000 xs"),
    ],
)
def test_counted(count: int, thing: str, said: str) -> None:
    assert counted(count, thing) == said


@given(st.text(), st.text())
def test_comparable_is_idempotent_and_keeps_letters(a: str, b: str) -> None:
    assert comparable(comparable(a)) == comparable(a)
    if comparable(a) == comparable(b):
        assert [c for c in a.casefold() if c.isascii() and c.isalnum()] == [
            c for c in b.casefold() if c.isascii() and c.isalnum()
        ] or not (a.isascii() and b.isascii())


def test_vowel_signs_are_letters() -> None:
    assert comparable("कि") != comparable("का")
