"""Labels for kept embeddings: from a data set by path or tail, from the file, from the folders."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import write_set

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.results import Failure
from fieldmarks.data import open_dataset
from fieldmarks.data.precomputed import PathSuffixes, labelled
from fieldmarks.errors import EvaluationError, ImageError


def _archive(path: Path, names: list[str], **more: object) -> Path:
    arrays = {"embeddings": np.ones((len(names), 3), np.float32), "images": np.array(names)} | more
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def _labels(path: Path, spec: Path | None = None) -> list[str | None]:
    return [label for _, label in labelled(path, open_dataset(str(spec)) if spec else None)]


def test_labels_of_a_data_set_by_path_or_by_tail(tree: Path, tmp_path: Path) -> None:
    names = [
        str(tree / "owl" / "0.png"),
        "elsewhere/animals/tree frog/2.png",
        "tree frog/2.png",
        "2.png",
        "9.png",
    ]
    kept = _archive(tmp_path / "a.npz", [*names, "somewhere/1.png"], labels=np.array(["wrong"] * 6))
    *found, (last, label) = labelled(kept, open_dataset(str(tree)))
    assert [label for _, label in found] == ["owl", "tree frog", "tree frog", "tree frog", None]
    assert [item.image for item, _ in found] == names
    assert label is None
    assert last == Failure(
        "somewhere/1.png",
        "several images of the data set have paths that end like this, with different labels",
    )


def test_labels_of_a_tar(tree: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tree, "animals")
    kept = _archive(tmp_path / "a.npz", ["/data/animals/newt/0.png", "owl/1.png"])
    assert _labels(kept, tmp_path / "a.tar") == ["newt", "owl"]


def test_labels_in_an_archive(tmp_path: Path) -> None:
    names = ["x/0.png", "x/1.png"]
    classes = np.array(["newt", "tree frog"])
    texts = np.array(["owl", " newt "])
    assert _labels(_archive(tmp_path / "a.npz", names, labels=texts)) == ["owl", "newt"]
    assert _labels(_archive(tmp_path / "b.npz", names, labels=texts, classes=classes)) == ["owl", "newt"]
    indices = np.array([1, 0], np.uint8)
    assert _labels(_archive(tmp_path / "c.npz", names, labels=indices, classes=classes)) == [
        "tree frog",
        "newt",
    ]
    assert _labels(_archive(tmp_path / "d.npz", names, labels=indices)) == ["1", "0"]
    assert _labels(_archive(tmp_path / "e.npz", names, labels=np.array(["a\nb", ""]))) == [None, None]


def test_labels_are_the_folders_where_nothing_else_is_known(tmp_path: Path) -> None:
    assert _labels(_archive(tmp_path / "a.npz", ["d/owl/0.png", "newt/1.png", "2.png"])) == [
        "owl",
        "newt",
        None,
    ]
    np.savez(tmp_path / "b.npz", embeddings=np.eye(2, 3))
    assert _labels(tmp_path / "b.npz") == [None, None]


def test_labels_in_the_metadata_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    embedded = [Embedded(f"owl/{n}.png", np.full(3, 1.0, np.float32)) for n in range(3)]
    write_set(tmp_path / "a", embedded)
    assert _labels(tmp_path / "a") == ["owl"] * 3
    told = arrow.table({"image_path": [item.image for item in embedded], "label": ["newt", None, "owl"]})
    parquet.write_table(told, tmp_path / "a" / "metadata" / "metadata_0000.parquet")
    assert _labels(tmp_path / "a") == ["newt", "owl", "owl"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": np.array([1])}, "holds labels (1,) of int64; expected 2 strings or integers"),
        ({"labels": np.array([[1, 2]])}, "holds labels (1, 2) of int64"),
        ({"labels": np.array([0.5, 1])}, "holds labels (2,) of float64"),
        (
            {"labels": np.array([0, 2]), "classes": np.array(["a", "b"])},
            "holds labels outside its 2 classes",
        ),
        (
            {"labels": np.array([0, -1]), "classes": np.array(["a", "b"])},
            "holds labels outside its 2 classes",
        ),
        ({"labels": np.array([None, "a"])}, "cannot be read: it holds Python objects, which are not loaded"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(ImageError) as caught:
        _labels(_archive(tmp_path / "a.npz", ["0.png", "1.png"], **more))
    assert message in str(caught.value)


def test_a_data_set_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such file or folder"):
        _labels(_archive(tmp_path / "a.npz", ["0.png"]), tmp_path / "none")


PART = st.sampled_from(["a", "b", "ab", "a b", "c.png"])
PATH = st.lists(PART, min_size=1, max_size=4).map("/".join)


@pytest.mark.slow
@given(st.lists(st.tuples(PATH, st.sampled_from("xyz")), max_size=12), PATH)
def test_the_longest_common_tail_decides(pairs: list[tuple[str, str]], name: str) -> None:
    known = dict(pairs)

    def shared(other: str) -> int:
        ours, theirs = name.split("/")[::-1], other.split("/")[::-1]
        return next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )

    best = max(map(shared, known), default=0)
    expected = {label for other, label in known.items() if best and shared(other) == best}
    expected = {known[name]} if name in known else expected
    found = PathSuffixes(known.items()).find(name)
    assert found <= expected
    assert len(found) == min(2, len(expected))
