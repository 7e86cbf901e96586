"""Other programs' files, both ways: what goes out comes in again, whatever the texts hold."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import APPROVED, UNSURE, class_name
from fieldmarks.store.formats import dump
from fieldmarks.store.formats import load as load_table
from fieldmarks.tables import errors_as, parse_table

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ODD = st.sampled_from(
    ["", "'", "''", "=1+1", "'=1", " =1", "-", "+", "@x", "\t", "\r", "\n", '"', "a,b", "a\tb", "'tis", "＝1"]
)


def _is_name(text: str) -> bool:
    try:
        return class_name(text) == text
    except ClassNameError:
        return False


NAMES = (TEXT | st.sampled_from(["=cmd", "-x", "'", "class", '"a"'])).filter(_is_name)
LISTS = st.dictionaries(NAMES, st.lists(TEXT | ODD, max_size=4), max_size=4)


def load(text: str, kind: str) -> dict[str, list[str]]:
    """Return the lists in the text of a file x.KIND."""
    with errors_as(StoreError):
        return load_table(parse_table(text.encode(), "x", f".{kind}")).lists


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "csv", "tsv"])
@given(lists=LISTS)
def test_out_and_in_again(kind: str, lists: dict[str, list[str]]) -> None:
    again = load(dump(lists, kind), kind)
    assert again == lists
    assert list(again) == list(lists)


@pytest.mark.slow
@given(lists=LISTS)
def test_no_cell_is_a_formula(lists: dict[str, list[str]]) -> None:
    for row in csv.reader(io.StringIO(dump(lists, "csv").removeprefix("\ufeff"), newline="")):
        assert not any(
            cell.lstrip().startswith(("#", "=", "+", "-", "@", "＝", "＋", "－", "＠")) for cell in row
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "tsv"])
@given(lists=LISTS, data=st.data())
def test_review_marks_come_in_again_and_leave_the_lists_as_they_are(
    kind: str, lists: dict[str, list[str]], data: st.DataObject
) -> None:
    some = data.draw(st.sets(st.sampled_from(list(lists)))) if lists else set()
    marks = {name: data.draw(st.sampled_from([APPROVED, UNSURE])) for name in lists if name in some}
    with errors_as(StoreError):
        again = load_table(parse_table(dump(lists, kind, marks).encode(), "x", f".{kind}"))
    assert (again.lists, again.marks) == (lists, marks)


def test_csv_as_a_spreadsheet_gets_it() -> None:
    lists = {"frog": ["wide, flat head", "=1+1"], "empty": []}
    assert (
        dump(lists, "csv") == '\ufeffclass,descriptor\r\nfrog,"wide, flat head"\r\nfrog,\'=1+1\r\nempty\r\n'
    )


def test_csv_as_a_spreadsheet_gives_it_back() -> None:
    text = (
        "class;descriptor\r\n".replace(";", ",") + "frog,a,,\r\nfrog,'tis b,\r\n,,\r\nempty,\r\nfrog,-c\r\n"
    )
    assert load(text, "csv") == {"frog": ["a", "'tis b", "-c"], "empty": []}
    assert load("Frog\tgreen\n", "tsv") == {"Frog": ["green"]}


def test_sentences_are_descriptors_too() -> None:
    cupl = '{"tench": ["A tench is a freshwater fish.", "Tench are olive green."]}'
    assert load(cupl, "json") == json.loads(cupl)


@pytest.mark.parametrize("name", ["imagenet", "dtd", "eurosat"])
def test_the_papers_files_come_out_byte_for_byte(check_data: Path, name: str) -> None:
    data = (check_data / "descriptors" / f"descriptors_{name}.json").read_bytes()
    lists = load(data.decode(), "json")
    assert dump(lists, "json").encode() == data
    for kind in ("csv", "tsv"):
        assert dump(load(dump(lists, kind), kind), "json").encode() == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "^x: not JSON: "),
        ('{"a": NaN}', "^x: not JSON: "),
        ('{"a": ["\\ud800"]}', "^x: not JSON: "),
        ("[" * 3000, "^x: not JSON: "),
        ("[]", "^x: expected an object of class names"),
        ('{"a": "b"}', "^x: class 'a': expected a list of strings, found a string"),
        ('{"a": [1]}', r"^x: class 'a': expected a list of strings, found a list with a number"),
        ('{"a": {}}', "^x: class 'a': expected a list of strings, found an object"),
        ('{"a": [], "a": []}', "^x, item 2: class 'a' occurs twice, also as item 1: keep one"),
        ('{"a": [], "b": [], " a": []}', "^x, item 3: class 'a' occurs twice, also as item 1: keep one"),
        ('{"": []}', "^x, item 1: a class name is empty"),
    ],
)
def test_json_that_is_not_lists(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        load(text, "json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        # prompt: texts, and what else nests texts alone
        ({"a": {"q1": ["x"], "q2": ["y"]}, "b": {}}, "found an object of 'q1', 'q2': make all its texts one"),
        (
            {"a": [["x"], ["y"]]},
            r"a list with a list in place 1: make .* `jq 'map_values\(\[\.\. \| strings\]\)'",
        ),
        ({"a": ["x", ["y"]]}, "a list with a list in place 2: make all its texts one list"),
        ({"data": {"a": ["x"]}}, "or, if 'data' is not a class, extract its contents with"),
        # pairs of classes, scores, nulls
        (
            {"0_1": {"classes": [0, 1], "texts": [["x", "y"]]}},
            "of 'classes', 'texts': give each class one list",
        ),
        (
            {"a": {"x": 0.5}},
            "class 'a': expected a list of strings, found an object of 'x': give each class one",
        ),
        ({"a": ["x", None]}, "a list with null in place 2: give each class one list"),
        ({"a": json.loads("[" * 500 + "]" * 500)}, "a list with a list in place 1"),
        # columns, lists, an object a class
        (
            {"class": ["a"], "descriptors": ["x"]},
            "^x: its keys 'class' and 'descriptors' are headings of columns",
        ),
        (["a", "b"], "^x is a list without classes: .* names alone are for `fieldmarks generate`"),
        ([{"a": ["x"]}, {"b": ["y"]}], "^x has an object for each class: join them with `jq add FILE`"),
    ],
)
def test_other_shapes_are_refused_with_a_remedy(value: object, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        load(json.dumps(value), "json")


def test_the_remedy_for_nested_texts_keeps_all_of_them() -> None:
    if (jq := shutil.which("jq")) is None:
        pytest.skip("there is no jq")
    nested = json.dumps({"b": {"q1": ["x"], "q2": ["y", "x"]}, "a": [["z"], "w"], "c": "v"})
    command = [jq, "map_values([.. | strings])"]
    flat = subprocess.run(command, input=nested, capture_output=True, text=True, check=True).stdout
    assert load(flat, "json") == {"b": ["x", "y", "x"], "a": ["z", "w"], "c": ["v"]}


def test_classes_without_descriptors_are_no_objects_of_a_class() -> None:
    assert load('[{"class": "a"}, {"class": "b", "descriptors": null}]', "json") == {"a": [], "b": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,descriptor\na,b,c\n", "^x, line 2: expected 2 cells as in line 1, found 3: quote a cell"),
        ('a,"b\n', "^x, line 1: a quoted cell is not closed"),
        (",b\n", "^x, line 1: expected 2 columns"),
        (
            "class,descriptor\n,b\n",
            "^x, line 2: no class beside a descriptor, as in rows below a merged cell",
        ),
        (f"a,{'x' * 200_000}\n", "^x, line 1: field larger than"),
    ],
)
def test_csv_that_is_not_lists(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        load(text, "csv")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            "owl,eyes,ok\n",
            "x, line 2: expected approved, unsure or nothing in column .review., found .ok.: write one",
        ),
        ("owl,eyes,unsure\nowl,beak,Approved\n", "line 3: class 'owl' is approved here and unsure above"),
        ("owl,eyes,\n,,unsure\n", "line 3: no class beside a review mark"),
    ],
)
def test_marks_that_are_not_certain_are_refused(rows: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        load("class,descriptor,review\n" + rows, "csv")
    table = parse_table(
        f"class,descriptor,review\n{rows}".replace(",,unsure", "newt,,").encode(), "x", ".csv"
    )
    assert load_table(table, ["class", "descriptor"]).marks == {}
