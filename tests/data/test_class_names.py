"""Lists that name labels which are numbers."""

from pathlib import Path

import pytest

from fieldmarks.data.labels import name_numbers, read_list
from fieldmarks.errors import EvaluationError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "tree frog\nowl\n"),
        ("labels.txt", "0 tree frog\r\n1: owl"),
        ("classnames.txt", "1, owl\n0, tree frog"),
        ("classes.json", '["tree frog", "owl"]'),
        ("classes.json", '{"0": "tree frog", "1": "owl"}'),
        ("labels.json", '{"owl": 1, "tree frog": 0}'),
        (
            "labels.json",
            '{"id2label": {"0": "tree frog", "1": "owl"}, "label2id": {"owl": 1, "tree frog": 0}}',
        ),
        ("label2id.json", '{"owl": 1, "tree frog": 0}'),
        ("classes.csv", "id;name\r\n0;tree frog\r\n;\r\n1;owl\r\n"),
        ("classes.csv", "Class,Index,Count\nowl,1,30\ntree frog,0,20\n"),
        ("classes.txt", "\ufeffclass\ntree frog\n\nowl\n"),
        ("classes.txt", "# of 2020\n1. owl\n0. tree frog\n"),
        ("classes.txt", "owl 1\ntree frog 0\n"),
        ("classes.txt", '["tree frog", "owl"]'),
        ("data.yaml", "train: images\nnc: 2\nnames:\n  0: tree frog\n  1: owl\n"),
        ("data.yaml", "names: [tree frog, owl]\n"),
    ],
)
def test_a_list_in_any_form_names_numbers(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_list(tmp_path / name) == {"0": "tree frog", "1": "owl"}
    for spec in (tmp_path, tmp_path / "a.csv"):
        named, notices = name_numbers(["00", "1"], str(spec))
        assert named == {"00": "tree frog", "1": "owl"}
        assert notices == [f"the labels are numbers, named by {tmp_path / name}: '00' is 'tree frog'"]


def test_numbers_that_go_from_1_to_the_number_of_names_count_from_1(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tree frog\nowl")
    named, (notice,) = name_numbers(["1", "2"], str(tmp_path))
    assert named == {"1": "tree frog", "2": "owl"}
    assert "classes.txt, which is counted from 1: '1' is 'tree frog'" in notice
    assert name_numbers(["0", "1"], str(tmp_path))[0] == {"0": "tree frog", "1": "owl"}


def test_numbers_of_wordnet(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n01440764 tench\nn01443537 goldfish")
    assert name_numbers(["n01443537"], str(tmp_path))[0] == {"n01443537": "goldfish"}


def test_labels_that_are_names_ask_for_no_list(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\x07 not a list at all")
    assert name_numbers(["0", "owl"], str(tmp_path)) == ({}, [])
    assert name_numbers([], str(tmp_path)) == ({}, [])
    assert name_numbers(["0"], str(tmp_path / "sub" / "a.csv")) == ({}, [])


def test_a_list_that_names_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("owl\nnewt")
    notice = f"the labels are numbers, and {tmp_path}/classes.txt names none of them"
    assert name_numbers(["7"], str(tmp_path)) == ({}, [notice])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.json", '{"a": ["b"], "c": ["d"]}', "expected a column of class names"),
        ("classes.json", "{", "not JSON"),
        ("classes.txt", "", "contains no class name"),
        ("classes.txt", "owl,newt,frog", "all names are on one line: write one per line"),
        ("classes.txt", "0 owl\n0 newt", "0 names two classes: keep one"),
        ("classes.csv", "n,m,name\n0,5,owl\n1,6,newt\n", "several columns of numbers"),
        ("labels.json", "[" * 99_999, "nested|recursion|not JSON"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=rf"{name}.*(?:{message})"):
        name_numbers(["0"], str(tmp_path))
