"""Manifests: tables of pictures and labels that people and spreadsheets write."""

from collections import Counter
from pathlib import Path

import pytest

from fieldmarks.classification.results import Failure
from fieldmarks.data import DataSet, Example, open_dataset
from fieldmarks.data.manifest import image_paths
from fieldmarks.errors import EvaluationError


def _open(path: Path, text: str | bytes, **said: str) -> DataSet:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_dataset(str(path), **said)  # type: ignore[arg-type]


def _pairs(dataset: DataSet) -> list[tuple[str, str]]:
    return [(str(example.image), example.label) for example in dataset if isinstance(example, Example)]


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
    about = dict(_open(tmp_path / "m.csv", "image,label\na.png,owl\n").metadata)
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
    assert (dataset.labels(), dataset.metadata["split"]) == (Counter(owl=1, newt=1), "test")
    assert dataset.notices == [
        f"{tmp_path}/m.csv: 2 images from columns 'image' and 'label', separated by ','",
        "using the split 'test'; also available: 'train'",
    ]
    assert _open(tmp_path / "m.csv", text, split="train").labels() == Counter(owl=1)
    with pytest.raises(EvaluationError, match="it has no split 'val': expected one of 'train', 'test'"):
        _open(tmp_path / "m.csv", text, split="val")
    with pytest.raises(EvaluationError, match="it has no splits"):
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
    assert [failure.error for failure in dataset if isinstance(failure, Failure)] == [
        "it has no label",
        "it has no image",
        "its label cannot be used: class name 'o\\x00wl' has the control character '\\x00': remove it",
        "its label is a list: expected a string",
        f"{tmp_path}/m.jsonl, line 5: an address: download it and pass the file",
        "it has no image",
    ]
    assert [label for _, label in _pairs(dataset)] == ["owl", "3"]
    assert "p@host" not in "".join(failure.image for failure in dataset if isinstance(failure, Failure))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "m.csv",
            b"image,label\na.png,\xea\xee\xf2\n",
            ", line 2: byte 0xEA is not UTF-8: save the file as UTF-8",
        ),
        ("m.csv", b"\xd0\xcf\x11\xe0", " is an old Excel workbook or Word document: export the sheet as CSV"),
        ("m.csv", "", ": empty: write a heading such as image,label, or JSON lines with these keys"),
        (
            "m.csv",
            "a.png,owl\n",
            ", line 1: expected a heading, found an image: write image,label as the first line",
        ),
        (
            "m.csv",
            "image,path,label\n",
            ": several columns could be the image: pass --image-column with one of",
        ),
        ("m.csv", "image,label,label\na,b,c\n", ", line 1: two columns are called 'label': rename one"),
        (
            "m.csv",
            "image,label\na.png,owl,bird\n",
            ", line 2: expected 2 cells as in line 1, found 3: quote a cell",
        ),
        (
            "m.csv",
            f"image,label\na.png,{'x' * 200_000}\n",
            ", line 2: field larger than field limit (131072)",
        ),
        ("m.csv", 'image,label\n"a.png"x,owl\n', ", line 2: text after a closing quote"),
        ("m.csv", 'image,label\n"a.png,owl\n', ", line 2: a quoted cell is not closed"),
        ("m.csv", "image,label\n", " lists no images: write one per line"),
        ("m.jsonl", "\n", ": empty: write a heading"),
        ("m.jsonl", '{"image": "a", "label": "b"}\n{"image":', ", line 2: not JSON: "),
        ("m.jsonl", "[" * 200_000, ", line 1: not JSON: "),
        ("m.jsonl", '"a.png"', ": expected objects with the keys image and label, one per line"),
        (
            "m.jsonl",
            f'{{"image": "{"x" * 2**20}"}}',
            f", line 1: {2**20 + 13:,} characters, more than {2**20:,}: write one object per line",
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
        open_dataset(str(tmp_path / "none.csv"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "columns", [("Image", "Label", "Split"), ("split", "label", "file_name"), ("SPLIT", "Path", "CLASS")]
)
def test_columns_in_any_order_and_case(
    tmp_path: Path, columns: tuple[str, ...], delimiter: str, encoding: str
) -> None:
    """Every combination of spreadsheets' delimiters and encodings is read with its splits apart."""
    kinds = [
        "split" if name.casefold() == "split" else "label" if name in {"Label", "label", "CLASS"} else "image"
        for name in columns
    ]
    rows = [("a.png", "Blässhuhn", "Train"), ("b.png", "owl", "TEST"), ("c.png", "owl, barn", "test ")]
    lines = [delimiter.join(columns)]
    for image, label, split in rows:
        cells = {"image": image, "label": f'"{label}"', "split": split}
        lines.append(delimiter.join(cells[kind] for kind in kinds))
    dataset = _open(tmp_path / "m.csv", "\r\n".join(lines).encode(encoding))
    assert _pairs(dataset) == [(f"{tmp_path}/b.png", "owl"), (f"{tmp_path}/c.png", "owl, barn")]
    assert dataset.notices[1] == "using the split 'TEST'; also available: 'Train'"
    train = open_dataset(str(tmp_path / "m.csv"), split="train")
    assert _pairs(train) == [(f"{tmp_path}/a.png", "Blässhuhn")]


def test_backslashes_are_slashes_unless_a_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "odd\\name.png").write_bytes(b"")
    text = "image,label\r\nphotos\\a.png,owl\r\nodd\\name.png,owl\r\nC:\\x.png,owl\r\n"
    assert [name for name, _ in _pairs(_open(tmp_path / "m.csv", text))] == [
        f"{tmp_path}/photos/a.png",
        f"{tmp_path}/odd\\name.png",
        f"{tmp_path}/C:\\x.png",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,label\na.png,owl\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "label": "owl"}\n'),
    ],
)
def test_metadata_in_a_folder(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / name).write_text(text)
    dataset = open_dataset(str(tmp_path / "whole"))
    assert _pairs(dataset) == [(f"{tmp_path}/whole/a.png", "owl")]
    for part in ("train", "test"):
        (tmp_path / "parts" / part).mkdir(parents=True)
        (tmp_path / "parts" / part / name).write_text(text)
    dataset = open_dataset(str(tmp_path / "parts"))
    assert (_pairs(dataset), dataset.metadata["split"]) == ([(f"{tmp_path}/parts/test/a.png", "owl")], "test")
    dataset = open_dataset(str(tmp_path / "parts"), split="train")
    assert _pairs(dataset) == [(f"{tmp_path}/parts/train/a.png", "owl")]


def test_metadata_without_labels_leaves_the_folders_their_names(tmp_path: Path) -> None:
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "a.png").write_bytes(b"")
    (tmp_path / "metadata.csv").write_text("file_name,caption\nowl/a.png,a bird\n")
    assert _pairs(open_dataset(str(tmp_path))) == [(f"{tmp_path}/owl/a.png", "owl")]


def test_images_of_a_manifest_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("id,image\n1,a/0.png\n2,http://127.0.0.1/x.png\n3,/b/2.png\n")
    assert image_paths(Path("list.csv")) == ["a/0.png", "http://127.0.0.1/x.png", "/b/2.png"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "list.jsonl").write_text('{"file_name": "0.png"}\n{"file_name": "1.png"}\n')
    assert image_paths(Path("c/list.jsonl")) == ["c/0.png", "c/1.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,label\na.png,owl\n,owl\n",
            "list.csv, line 3: it has no image: fill it in or remove the line",
        ),
        ("a.png\nb.png\n", "list.csv, line 1: expected a heading, found an image"),
        ("image,label\n", "list.csv lists no images: write one per line"),
        ("name,label\na,owl\n", "list.csv: no column of images: call one of 'name', 'label' 'image'"),
        (
            "image,path\na.png,b.png\n",
            "list.csv: several columns of images: call one of 'image', 'path' 'image'",
        ),
    ],
)
def test_a_list_of_images_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(EvaluationError) as caught:
        image_paths(Path("list.csv"))
    assert str(caught.value).startswith(message)
