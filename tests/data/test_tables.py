"""Tables of the `datasets` library and others: parquet, arrow, and folders that save_to_disk wrote."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import png

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import Blob
from fieldmarks.data import DataSet, Example, open_dataset
from fieldmarks.data.hf import NOT_THERE
from fieldmarks.errors import EvaluationError

datasets = pytest.importorskip("datasets")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

LABELS = ["newt", "owl"]


@pytest.fixture(autouse=True)
def _no_bars() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def _cells(count: int) -> list[dict[str, Any]]:
    return [{"bytes": png(number), "path": f"some/{number}.png"} for number in range(count)]


def _dataset(labels: list[Any], feature: Any = None, **more: Any) -> Any:
    columns = {"image": _cells(len(labels)), "label": labels} | more
    whole = datasets.Dataset.from_dict(columns)
    whole = whole.cast_column("image", datasets.Image())
    return whole if feature is None else whole.cast_column("label", feature)


def _named(labels: list[Any], **more: Any) -> Any:
    return _dataset(labels, datasets.ClassLabel(names=LABELS), **more)


def _pairs(dataset: DataSet) -> list[tuple[str, bytes, str]]:
    return [
        (example.image.name, example.image.data, example.label)
        for example in dataset
        if isinstance(example, Example) and isinstance(example.image, Blob)
    ]


EXPECTED = [("all#0/0.png", png(0), "owl"), ("all#1/1.png", png(1), "newt"), ("all#2/2.png", png(2), "owl")]


def test_parquet(tmp_path: Path) -> None:
    _named([1, 0, 1]).to_parquet(tmp_path / "a.parquet")
    dataset = open_dataset(str(tmp_path / "a.parquet"))
    assert _pairs(dataset) == EXPECTED
    assert _pairs(dataset) == EXPECTED
    assert dataset.labels() == Counter(owl=2, newt=1)
    assert dataset.metadata == {
        "spec": f"{tmp_path}/a.parquet",
        "kind": "parquet",
        "files": ["a.parquet"],
        "bytes": [(tmp_path / "a.parquet").stat().st_size],
        "split": "all",
        "image_column": "image",
        "label_column": "label",
        "limit": None,
    }


@pytest.mark.slow
def test_saved_folders_and_arrow_files(tmp_path: Path) -> None:
    _named([1, 0, 1]).save_to_disk(tmp_path / "saved")
    assert _pairs(open_dataset(str(tmp_path / "saved"))) == EXPECTED
    (file,) = (tmp_path / "saved").glob("*.arrow")
    assert _pairs(open_dataset(str(file))) == EXPECTED
    parts = {"train": _named([0]), "validation": _named([1, 0, 1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    dataset = open_dataset(str(tmp_path / "parts"))
    assert [name for name, *_ in _pairs(dataset)] == [f"validation#{n}/{n}.png" for n in range(3)]
    assert dataset.notices == ["using the split 'validation'; also available: 'train'"]
    assert open_dataset(str(tmp_path / "parts"), split="train").labels() == Counter(newt=1)


def test_a_folder_of_parquet_files_with_splits_and_shards(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    _named([0]).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    _named([1, 0]).to_parquet(tmp_path / "data" / "test-00000-of-00002.parquet")
    _named([1]).to_parquet(tmp_path / "data" / "test-00001-of-00002.parquet")
    dataset = open_dataset(str(tmp_path))
    assert [(name, label) for name, _, label in _pairs(dataset)] == [
        ("test#0/0.png", "owl"),
        ("test#1/1.png", "newt"),
        ("test#2/0.png", "owl"),
    ]
    only = open_dataset(str(tmp_path / "data" / "test-{00001..00001}-of-00002.parquet"))
    assert only.labels() == Counter(owl=1)
    with pytest.raises(EvaluationError, match="it has no split 'dev': expected one of 'test', 'train'"):
        open_dataset(str(tmp_path), split="dev")


def test_limits_are_spread(tmp_path: Path) -> None:
    _named([0] * 6 + [1] * 3).to_parquet(tmp_path / "a.parquet")
    dataset = open_dataset(str(tmp_path / "a.parquet"), limit=3)
    assert [name for name, *_ in _pairs(dataset)] == ["all#2/2.png", "all#5/5.png", "all#8/8.png"]
    assert dataset.labels() == Counter(newt=2, owl=1)


def test_labels_as_texts_and_columns_that_the_user_names(tmp_path: Path) -> None:
    whole = _dataset(["owl", "newt"], caption=["a", "b"], kind=["bird", "amphibian"])
    whole.to_parquet(tmp_path / "a.parquet")
    assert open_dataset(str(tmp_path / "a.parquet")).labels() == Counter(owl=1, newt=1)
    kinds = open_dataset(str(tmp_path / "a.parquet"), label_column="kind")
    assert kinds.labels() == Counter(bird=1, amphibian=1)


def test_parquet_of_other_programs(tmp_path: Path) -> None:
    table = arrow.table({"image": [png(0), png(1)], "class": ["owl", "newt"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert _pairs(open_dataset(str(tmp_path / "a.parquet"))) == [
        ("all#0", png(0), "owl"),
        ("all#1", png(1), "newt"),
    ]


def test_columns_that_are_not_clear(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    messages = {
        "several columns could be the label: pass --label-column with one of 'label', 'fine'": _named(
            [0, 1], fine=[1, 0]
        ).cast_column("fine", datasets.ClassLabel(names=LABELS)),
        "the column 'label' holds float64, not class names: pass a column of strings or whole numbers with": (
            _dataset([0.5, 1])
        ),
        "several columns could be the image: pass --image-column with one of 'image', 'mask'": _named(
            [0, 1], mask=_cells(2)
        ).cast_column("mask", datasets.Image()),
        "no image column recognised: pass --image-column with one of 'text', 'label'": (
            datasets.Dataset.from_dict({"text": ["a"], "label": ["b"]})
        ),
        "no label column recognised: pass --label-column with one of 'image', 'text'": (
            _dataset(["a"]).rename_column("label", "text")
        ),
    }
    for message, whole in messages.items():
        whole.to_parquet(path)
        with pytest.raises(EvaluationError) as caught:
            open_dataset(str(path))
        assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(
        EvaluationError, match="has no column 'x': pass --image-column with one of 'image', 'text'"
    ):
        open_dataset(str(path), image_column="x")


def test_numbers_are_labels_that_a_list_or_an_alias_names(tmp_path: Path) -> None:
    _dataset([0, 1]).to_parquet(tmp_path / "a.parquet")
    assert open_dataset(str(tmp_path / "a.parquet")).labels() == Counter({"0": 1, "1": 1})


def test_rows_that_name_files_are_followed_into_the_data_sets_folder_only(tmp_path: Path) -> None:
    """A table's maker could else have any picture of the user's read and shown."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(9))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(secret)
    paths = (
        str(secret),
        "http://127.0.0.1:9/a.png",
        r"C:\Users\me\b.png",
        "../secret.png",
        "link.png",
        "x\0.png",
    )
    rows = [*({"bytes": None, "path": path} for path in paths), {"bytes": None, "path": None}, None]
    kind = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    table = arrow.table({"image": arrow.array(rows, kind), "label": ["owl"] * len(rows)})
    parquet.write_table(table, folder / "plain.parquet")
    typed = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    parquet.write_table(table.cast(typed.arrow_schema), folder / "typed.parquet")
    names = ("secret.png", "a.png", "b.png", "secret.png", "link.png", "x\0.png")
    not_there = NOT_THERE.format(folder)
    for name in ("plain", "typed"):
        assert list(open_dataset(str(folder / f"{name}.parquet"))) == [
            *(Failure(f"all#{number}/{file}", not_there) for number, file in enumerate(names)),
            Failure("all#6", "its row has no image"),
            Failure("all#7", "its row has no image"),
        ]


def test_paths_are_relative_to_the_table_or_to_the_data_set(tmp_path: Path) -> None:
    for number, name in enumerate(("data/a.png", "images/b.png", "images/sub/c.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(number))
    paths = ["a.png", "images/b.png", r"images\sub\c.png"]
    table = arrow.table({"file_name": paths, "label": ["owl", "newt", "owl"]})
    parquet.write_table(table, tmp_path / "data" / "train.parquet")
    assert _pairs(open_dataset(str(tmp_path))) == [
        ("train#0/a.png", png(0), "owl"),
        ("train#1/b.png", png(1), "newt"),
        ("train#2/c.png", png(2), "owl"),
    ]
    alone = list(open_dataset(str(tmp_path / "data" / "train.parquet")))
    assert [type(row) for row in alone] == [Example, Failure, Failure]


def test_labels_that_are_none(tmp_path: Path) -> None:
    _named([1, None, -1]).to_parquet(tmp_path / "a.parquet")
    _dataset(["owl", "", "o\x07wl"]).to_parquet(tmp_path / "b.parquet")
    for name in ("a", "b"):
        dataset = open_dataset(str(tmp_path / f"{name}.parquet"))
        assert dataset.labels() == Counter(owl=1)
        failed = [failure for failure in dataset if isinstance(failure, Failure)]
        assert [failure.image for failure in failed] == ["all#1/1.png", "all#2/2.png"]
        assert failed[0].error == "it has no label"
    assert failed[1].error.startswith("its label cannot be used: class name 'o\\x07wl' has the control")


def test_an_empty_table(tmp_path: Path) -> None:
    _named([1]).select([]).to_parquet(tmp_path / "a.parquet")
    dataset = open_dataset(str(tmp_path / "a.parquet"), limit=3)
    assert (list(dataset), dataset.labels()) == ([], Counter())


def test_what_is_no_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _named([1]).to_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.arrow").write_text("hello")
    (tmp_path / "two").mkdir()
    _named([1]).to_parquet(tmp_path / "two" / "a.parquet")
    _dataset(["owl"]).to_parquet(tmp_path / "two" / "b.parquet")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.parquet").write_bytes(data)
    (tmp_path / "mixed" / "b.arrow").write_bytes(data)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").write_text("{")
    messages = {
        "torn.parquet": " cannot be read as a data set: Parquet magic bytes not found in footer",
        "text.arrow": " cannot be read as a data set: ",
        "two": "/b.parquet has different columns from ",
        "mixed": " holds parquet and arrow files: pass those of one kind",
        "saved": " cannot be read as a data set: ",
        "none.parquet": ": no such file",
        "none-*.parquet": ": no such file",
    }
    capfd.readouterr()
    for name, message in messages.items():
        with pytest.raises(EvaluationError) as caught:
            open_dataset(str(tmp_path / name))
        assert str(caught.value).startswith(f"{tmp_path}/{name}{message}")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_table_that_is_torn_inside(tmp_path: Path) -> None:
    file = io.BytesIO()
    noise = datasets.Dataset.from_dict({"image": _cells(40), "label": ["owl"] * 40})
    noise.cast_column("image", datasets.Image()).to_parquet(file)
    data = bytearray(file.getvalue())
    data[10:2000] = b"\xff" * 1990
    (tmp_path / "a.parquet").write_bytes(data)
    dataset = open_dataset(str(tmp_path / "a.parquet"))
    with pytest.raises(EvaluationError, match=r"a\.parquet cannot be read as a data set: "):
        list(dataset)


@pytest.mark.slow
def test_where_the_library_is_missing(tmp_path: Path) -> None:
    """A process that cannot import it names the extra to install."""
    import subprocess
    import sys

    _named([1]).to_parquet(tmp_path / "a.parquet")
    script = (
        "import sys\nsys.modules['datasets'] = None\nfrom fieldmarks.data import *\n"
        f"try:\n    open_dataset({str(tmp_path / 'a.parquet')!r})\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == (
        "EvaluationError this data set needs the library `datasets`: pip install 'datasets>=4.0'\n"
    )
