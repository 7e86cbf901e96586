"""One data set of real photos as a folder, a manifest, tables and tars: the same pictures and labels."""

import csv
import io
import tarfile
from pathlib import Path

import pytest

from fieldmarks.classification.sources import name_of, read_stamped
from fieldmarks.data import DataSet, Example, open_dataset

datasets = pytest.importorskip("datasets")

Found = list[tuple[str, bytes, str]]


@pytest.fixture(scope="module")
def folder(check_data: Path) -> Path:
    """372 photos of clothing in ten folders."""
    return check_data / "photos" / "clothing"


def _found(dataset: DataSet) -> Found:
    examples = [example for example in dataset if isinstance(example, Example)]
    return [
        (name_of(example.image, 0).rpartition("/")[2], read_stamped(example.image)[0] or b"", example.label)
        for example in examples
    ]


@pytest.fixture(scope="module")
def expected(folder: Path) -> Found:
    """The folder, read here and by hand."""
    paths = [path for label in sorted(folder.iterdir()) for path in sorted(label.iterdir())]
    return [(path.name, path.read_bytes(), path.parent.name) for path in paths]


@pytest.fixture(scope="module")
def tables(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the library makes of the folder: parquet with the pictures in it, and a saved data set."""
    out = tmp_path_factory.mktemp("tables")
    datasets.disable_progress_bars()
    whole = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(out / "cache")
    )
    whole.save_to_disk(out / "saved")
    datasets.load_from_disk(out / "saved").to_parquet(out / "a.parquet")
    return out


def test_the_folder(folder: Path, expected: Found) -> None:
    assert len(expected) == 372
    assert _found(open_dataset(str(folder))) == expected


def test_a_manifest(folder: Path, expected: Found, tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image", "label"), *((f"{folder}/{label}/{name}", label) for name, _, label in expected)]
        )
    assert _found(open_dataset(str(tmp_path / "a.csv"))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.parquet", "saved"])
def test_tables_of_the_library(tables: Path, name: str, expected: Found) -> None:
    assert _found(open_dataset(str(tables / name))) == expected


def test_a_tar_of_the_folder(folder: Path, expected: Found, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder, folder.name)
    assert _found(open_dataset(str(tmp_path / "a.tar"))) == expected


@pytest.mark.slow
def test_webdatasets_shards(expected: Found, tmp_path: Path) -> None:
    classes = sorted({label for *_, label in expected})
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    for shard in range(3):
        with tarfile.open(tmp_path / f"s-{shard:03}.tar.gz", "w:gz", compresslevel=1) as tar:
            for name, data, label in expected[shard * 124 : (shard + 1) * 124]:
                stem = name.removesuffix(".jpg")
                for file, content in ((name, data), (f"{stem}.cls", str(classes.index(label)).encode())):
                    member = tarfile.TarInfo(file)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    assert _found(open_dataset(str(tmp_path / "s-{000..002}.tar.gz"))) == expected
    assert open_dataset(str(tmp_path / "s-*.tar.gz")).labels().total() == 372
