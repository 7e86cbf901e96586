"""Manifests: tables of pictures and labels that people and spreadsheets write."""

from collections import Counter
from pathlib import Path

import pytest

from fieldmarks.classification.results import Failure
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import DataSet, Example, Source, open_dataset


def _open(path: Path, text: str | bytes, **said: str) -> DataSet:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_dataset(Source(str(path), **said))  # type: ignore[arg-type]


def _pairs(dataset: DataSet) -> list[tuple[str, str]]:
    return [(str(one.picture), one.label) for one in dataset if isinstance(one, Example)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "image,label\nowl/0.png,owl\n/abs/1.png,tree frog\n../up.png,newt\n"),
        ("m.csv", "\ufeffImage;Label\r\nowl/0.png;owl\r\n\r\n/abs/1.png;tree frog\r\n../up.png;newt\r\n"),
        ("m.tsv", "class\tother\tfile_name\nowl\t\towl/0.png\ntree frog\tx\t/abs/1.png\nnewt\t\t../up.png"),
        (
            "m.jsonl",
            '{"path": "owl/0.png", "label": "owl", "n": {}}\n{"label": "tree frog", "path": "/abs/1.png"}\n\n'
            '{"path": "../up.png", "label": "newt"}',
        ),
    ],
)
def test_paths_are_relative_to_the_manifest(tmp_path: Path, name: str, text: str) -> None:
    dataset = _open(tmp_path / name, text)
    assert _pairs(dataset) == [
        (f"{tmp_path}/owl/0.png", "owl"),
        ("/abs/1.png", "tree frog"),
        (f"{tmp_path}/../up.png", "newt"),
    ]
    assert list(dataset) == list(dataset)
    assert dataset.labels() == Counter({"owl": 1, "tree frog": 1, "newt": 1})


def test_what_is_needed_to_read_it_again(tmp_path: Path) -> None:
    about = dict(_open(tmp_path / "m.csv", "image,label\na.png,owl\n").about)
    assert len(about.pop("fingerprint")) == 64
    assert about == {
        "spec": f"{tmp_path}/m.csv",
        "kind": "manifest",
        "split": None,
        "limit": None,
        "image_column": "image",
        "label_column": "label",
        "pictures": 1,
    }


def test_a_column_of_splits(tmp_path: Path) -> None:
    text = "image,label,split\na.png,owl,train\nb.png,newt,test\nc.png,owl,test\n"
    dataset = _open(tmp_path / "m.csv", text)
    assert (dataset.labels(), dataset.about["split"]) == (Counter(owl=1, newt=1), "test")
    assert dataset.notices == ["the split 'test' is read; there is also 'train'"]
    assert _open(tmp_path / "m.csv", text, split="train").labels() == Counter(owl=1)
    with pytest.raises(EvaluationError, match="it has no split 'val': there is 'train', 'test'"):
        _open(tmp_path / "m.csv", text, split="val")
    with pytest.raises(EvaluationError, match="it has no split 'val': there is none"):
        _open(tmp_path / "m.csv", "image,label\na.png,owl\n", split="val")


def test_columns_that_the_user_names(tmp_path: Path) -> None:
    text = "photo,kind,label\na.png,bird,owl\n"
    dataset = _open(tmp_path / "m.csv", text, image_column="photo", label_column="kind")
    assert _pairs(dataset) == [(f"{tmp_path}/a.png", "bird")]


def test_lines_without_picture_or_label_are_failures_and_the_others_go_on(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.png", "label": null}',
        '{"image": null, "label": "owl"}',
        '{"image": "b.png", "label": "o\\u0000wl"}',
        '{"image": "c.png", "label": ["owl"]}',
        '{"image": "https://u:p@host/d.png", "label": "owl"}',
        '{"label": "owl"}',
        '{"image": "e\\u0000.png", "label": "owl"}',
        '{"image": "f.png", "label": 3}',
    ]
    dataset = _open(tmp_path / "m.jsonl", "\n".join(lines))
    assert [one.error for one in dataset if isinstance(one, Failure)] == [
        "it has no label",
        "it names no picture",
        "its label cannot be used: class name 'o\\x00wl' has the control character '\\x00': remove it",
        "its label is a list: a text is meant",
        f"{tmp_path}/m.jsonl, line 5: an address: download it and name the file",
        "it names no picture",
    ]
    assert [label for _, label in _pairs(dataset)] == ["owl", "3"]
    assert "p@host" not in "".join(one.image for one in dataset if isinstance(one, Failure))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", b"image,label\na.png,caf\xe9\n", ", line 2: not UTF-8 text: save it as UTF-8"),
        ("m.csv", "image,label\n".encode("utf-16"), ", line 1: not UTF-8 text"),
        ("m.csv", "", ": empty: a heading such as image,label is meant, or JSON lines with these keys"),
        (
            "m.csv",
            "a.png,owl\n",
            ": no column is seen to be the image: say --image-column, one of 'a.png', 'owl'",
        ),
        ("m.csv", "image,path,label\n", ": several columns could be the image: say --image-column, one of"),
        ("m.csv", "image,label,label\na,b,c\n", ": line 1: two columns are called 'label': rename one"),
        ("m.csv", "image,label\na.png,owl,bird\n", ": line 2: 3 cells where the heading has 2: quote a cell"),
        ("m.csv", "image,label\na.png\n", ": line 2: 1 cells where the heading has 2"),
        (
            "m.csv",
            f"image,label\na.png,{'x' * 200_000}\n",
            ": line 2: field larger than field limit (131072)",
        ),
        ("m.csv", 'image,label\n"a.png"x,owl\n', ": line 2: ',' expected after '\"'"),
        ("m.csv", 'image,label\n"a.png,owl\n', ": line 2: unexpected end of data"),
        ("m.csv", "image,label\n", " lists no picture: write one a line"),
        ("m.jsonl", "\n", ": empty: a heading"),
        ("m.jsonl", '{"image": "a", "label": "b"}\n{"image":', ": line 2: not JSON: "),
        ("m.jsonl", "[" * 200_000, ": line 1: not JSON: "),
        ("m.jsonl", '"a.png"', ": line 1: an object is meant, with the keys image and label"),
        (
            "m.jsonl",
            f'{{"image": "{"x" * 2**20}"}}',
            f": line 1: {2**20 + 13} characters, {2**20} are the most",
        ),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        _open(tmp_path / name, text)
    assert str(caught.value).startswith(f"{tmp_path}/{name}{message}")
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.csv: no such file"):
        open_dataset(Source(str(tmp_path / "none.csv")))
