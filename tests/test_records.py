"""Class names and lines: one way in, one way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import MAX_NAME, Entry, class_name

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
OBJECT = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, min_size=1, max_size=3)
COUNT = st.integers(0, 9)
EFFECT = {"descriptor": TEXT, "effect": st.floats(-1, 1), "margin": st.integers(-9, 9), "pictures": COUNT}
ABOUT = dict.fromkeys(("at", "data", "model", "preset", "theirs"), TEXT)
MEASURED = st.fixed_dictionaries(
    {**ABOUT, "pictures": COUNT, "effects": st.lists(st.fixed_dictionaries(EFFECT), max_size=2)}
)
NAME = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8).map(class_name)
ENTRIES = st.builds(
    Entry,
    name=NAME,
    descriptors=st.lists(TEXT, max_size=3).map(tuple),
    v=st.sampled_from([None, 1]),
    origin=st.sampled_from([None, "generated", "curated"]),
    prompt=st.none() | OBJECT,
    model=st.none() | TEXT,
    answers=st.lists(OBJECT, max_size=2).map(tuple),
    usage=st.none() | OBJECT,
    rejected=st.lists(TEXT, max_size=2).map(tuple),
    removed=st.booleans(),
    undo=st.booleans(),
    change=st.none() | TEXT,
    note=st.none() | TEXT,
    measured=st.none() | MEASURED,
    ids=st.lists(TEXT, max_size=2).map(tuple),
    confused_with=st.lists(TEXT, max_size=2).map(tuple),
    parent=st.none() | TEXT.filter(str.strip),
    extra=st.dictionaries(TEXT.map(lambda key: "x-" + key), TEXT, max_size=2),
)


@pytest.mark.slow
@given(ENTRIES)
def test_out_and_in_again(entry: Entry) -> None:
    assert Entry.from_dict(entry.to_dict()) == entry


def test_the_shortest_line() -> None:
    entry = Entry.from_dict({"class": " tree frog ", "descriptors": ["a"]})
    assert entry == Entry("tree frog", ("a",))
    assert entry.to_dict() == {"class": "tree frog", "descriptors": ["a"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({}, "'class' is missing"),
        ({"class": None}, "'class' has the wrong type: None"),
        ({"class": "x", "descriptors": [None]}, r"'descriptors' has the wrong type: \[None\]"),
        ({"class": "x", "v": True}, "'v' has the wrong type: True"),
        ({"class": "x", "v": 2}, "version 2 is newer than 1: use a newer fieldmarks"),
        ({"class": "x", "samples": ["a"]}, "'samples' has the wrong type"),
        ({"class": "x", "answers": ["a"]}, "'answers' has the wrong type"),
        ({"class": "x", "measured": {}}, "'measured' has the wrong type: {}"),
        ({"class": "x", "undo": "yes"}, "'undo' has the wrong type: 'yes'"),
    ],
)
def test_what_is_no_line(line: dict[str, object], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Entry.from_dict(line)


@pytest.mark.parametrize("value", [None, "n01", 7, ["n01", 7], {"a": "b"}])
def test_ids_of_another_program_are_kept_as_they_are(value: object) -> None:
    line = {"class": "x", "descriptors": [], "ids": value}
    entry = Entry.from_dict(line)
    assert entry.ids == ()
    assert entry.to_dict() == line


GOOD = {"descriptor": "a", "effect": -0.5, "margin": 1, "pictures": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"descriptor": None},
        {"effect": float("nan")},
        {"effect": 1.5},
        {"effect": True},
        {"margin": float("inf")},
        {"margin": 10**400},
        {"pictures": -1},
        {"pictures": 2.0},
        {"pictures": 1 << 63},
    ],
)
def test_what_is_no_measurement(wrong: dict[str, object]) -> None:
    metadata = {"at": "", "data": "", "model": "", "preset": "", "pictures": 3}
    line = {"class": "x", "descriptors": ["a"], "measured": metadata | {"effects": [GOOD]}}
    assert Entry.from_dict(line).to_dict() == line
    with pytest.raises(StoreError, match="'measured' has the wrong type"):
        Entry.from_dict(line | {"measured": metadata | {"effects": [GOOD | wrong]}})


@given(st.text())
def test_a_class_name_is_its_own_name_or_refused(text: str) -> None:
    try:
        name = class_name(text)
    except ClassNameError:
        return
    assert class_name(name) == name
    assert name == name.strip()
    assert 0 < len(name) <= MAX_NAME


def test_one_name_for_one_class() -> None:
    assert class_name(" cafe\u0301 ") == class_name("caf\u00e9") == "café"
