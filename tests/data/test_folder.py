"""A folder per class, whatever else lies in it."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.data.conftest import LABELS, png

from fieldmarks.data import DataSet, Example, open_dataset
from fieldmarks.errors import EvaluationError


def _names(dataset: DataSet, folder: Path) -> list[tuple[str, str]]:
    found = [example for example in dataset if isinstance(example, Example)]
    return [(str(Path(str(example.image)).relative_to(folder)), example.label) for example in found]


def test_the_class_is_the_folders_name_and_names_are_sorted(tree: Path) -> None:
    dataset = open_dataset(str(tree))
    assert _names(dataset, tree) == [
        ("newt/0.png", "newt"),
        ("owl/0.png", "owl"),
        ("owl/1.png", "owl"),
        ("tree frog/0.png", "tree frog"),
        ("tree frog/1.png", "tree frog"),
        ("tree frog/2.png", "tree frog"),
    ]
    assert dataset.labels() == Counter(LABELS)
    assert list(dataset) == list(dataset)
    assert dataset.notices == []


def test_what_is_needed_to_read_it_again(tree: Path, tmp_path: Path) -> None:
    about = dict(open_dataset(str(tree), limit=3).metadata)
    fingerprint = about.pop("fingerprint")
    assert about == {"spec": str(tree), "kind": "folder", "split": None, "limit": 3, "pictures": 6}
    shutil.copytree(tree, tmp_path / "copy")
    assert open_dataset(str(tmp_path / "copy")).metadata["fingerprint"] == fingerprint
    (tmp_path / "copy" / "owl" / "0.png").write_bytes(png(9) + b"longer")
    assert open_dataset(str(tmp_path / "copy")).metadata["fingerprint"] != fingerprint


def test_nested_folders_links_and_what_is_no_picture(tree: Path, tmp_path: Path) -> None:
    (tree / "owl" / "night" / "snow").mkdir(parents=True)
    (tree / "owl" / "night" / "snow" / "a.png").write_bytes(png(50))
    (tree / "owl" / "notes.txt").write_text("not a picture")
    (tree / ".hidden").mkdir()
    (tree / ".hidden" / "a.png").write_bytes(png(51))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.png").write_bytes(png(52))
    (tree / "toad").symlink_to(elsewhere)
    (tree / "newt" / "link.png").symlink_to(elsewhere / "b.png")
    labels = open_dataset(str(tree)).labels()
    assert labels == Counter(LABELS) + Counter({"owl": 1, "toad": 1, "newt": 1})


def test_empty_classes_and_loose_pictures_are_told(tree: Path) -> None:
    (tree / "empty").mkdir()
    (tree / "loose.png").write_bytes(png(60))
    dataset = open_dataset(str(tree))
    assert dataset.notices == [
        "folders without images: 'empty'",
        "left out, because they are in no class's folder: 'loose.png'",
    ]
    assert dataset.labels() == Counter(LABELS)


def test_a_folder_whose_name_is_no_label(tree: Path) -> None:
    (tree / "owl").rename(tree / "o\x1bwl")
    failed = [item for item in open_dataset(str(tree)) if not isinstance(item, Example)]
    assert len(failed) == 2
    assert "its label cannot be used: class name 'o\\x1bwl' has the control character" in failed[0].error


@pytest.fixture
def parted(tree: Path, tmp_path: Path) -> Path:
    """The folder as a train split, and a test split of two pictures beside it."""
    whole = tmp_path / "parted"
    whole.mkdir()
    tree.rename(whole / "train")
    for label in ("owl", "newt"):
        (whole / "test" / label).mkdir(parents=True)
        (whole / "test" / label / "x.png").write_bytes(png(70))
    return whole


def test_splits(parted: Path) -> None:
    default = open_dataset(str(parted))
    assert (default.metadata["split"], default.labels()) == ("test", Counter(owl=1, newt=1))
    assert default.notices == ["using the split 'test'; also available: 'train'"]
    train = open_dataset(str(parted), split="train")
    assert (train.metadata["split"], train.labels(), train.notices) == ("train", Counter(LABELS), [])
    assert open_dataset(str(parted), split="TRAIN").metadata["split"] == "train"
    with pytest.raises(EvaluationError, match="it has no split 'val': expected one of 'test', 'train'"):
        open_dataset(str(parted), split="val")


def test_classes_called_like_splits_are_classes(tmp_path: Path) -> None:
    for label in ("train", "test"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes(png(1))
    assert open_dataset(str(tmp_path)).labels() == Counter(train=1, test=1)


def test_a_limit_is_spread_over_the_classes(tree: Path) -> None:
    assert _names(open_dataset(str(tree), limit=3), tree) == [
        ("owl/0.png", "owl"),
        ("tree frog/0.png", "tree frog"),
        ("tree frog/2.png", "tree frog"),
    ]
    assert open_dataset(str(tree), limit=100).labels() == Counter(LABELS)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    with pytest.raises(
        EvaluationError, match="has 1 image directly in it and none in folders of classes: exp"
    ):
        open_dataset(str(tmp_path))
    with pytest.raises(
        EvaluationError, match=r"a\.png: no data set: expected a folder with a folder per class, "
    ):
        open_dataset(str(tmp_path / "a.png"))
    with pytest.raises(EvaluationError, match="none: no such file or folder: expected a folder with"):
        open_dataset(str(tmp_path / "none"))
    with pytest.raises(EvaluationError, match="is a folder of images and has no column 'x'"):
        open_dataset(str(tmp_path), label_column="x")
    with pytest.raises(EvaluationError, match="cannot be read: File name too long"):
        open_dataset("x" * 5000)
    with pytest.raises(EvaluationError, match="a limit of 0 leaves no image"):
        open_dataset(str(tmp_path), limit=0)


def _add(folder: Path, *names: str) -> None:
    """Write an image for each name, each of its own bytes."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(100 + number))


def test_splits_in_any_case_beside_folders_without_images(parted: Path) -> None:
    (parted / "train").rename(parted / "Training")
    (parted / "docs").mkdir()
    (parted / "docs" / "README.md").touch()
    _add(parted, "__MACOSX/owl/a.png", "@eaDir/a.png")
    (parted / "labels.txt").touch()
    dataset = open_dataset(str(parted))
    assert (dataset.metadata["split"], dataset.labels()) == ("test", Counter(owl=1, newt=1))
    assert dataset.notices == ["using the split 'test'; also available: 'Training'"]


def test_splits_beside_another_folder_of_images_have_to_be_named(parted: Path) -> None:
    _add(parted, "extra/owl/a.png")
    message = (
        "has the splits 'test', 'train' beside 'extra': pass --split test, or rename the folder if 'test' is"
    )
    with pytest.raises(EvaluationError, match=message):
        open_dataset(str(parted))
    assert open_dataset(str(parted), split="train").labels() == Counter(LABELS)
    assert open_dataset(str(parted), split="extra").labels() == Counter(owl=1)
    shutil.rmtree(parted / "test")
    with pytest.raises(EvaluationError, match="has the splits 'train' beside 'extra': pass --split train"):
        open_dataset(str(parted))


def test_a_vehicle_is_no_split(tmp_path: Path) -> None:
    _add(tmp_path, "bus/a.png", "car/a.png", "train/steam/a.png", "train/diesel/a.png")
    dataset = open_dataset(str(tmp_path))
    assert dataset.labels() == Counter(bus=1, car=1, train=2)
    assert dataset.notices == ["'train' is read as a class; pass --split train if it is a split"]
    assert open_dataset(str(tmp_path), split="train").labels() == Counter(steam=1, diesel=1)


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    _add(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/1.png", "test/2.png")
    dataset = open_dataset(str(tmp_path))
    assert (dataset.metadata["split"], dataset.labels()) == ("train", Counter(cat=1, dog=1))
    assert dataset.notices == ["left out, because they have no folder per class: 'test'"]


def test_folders_that_only_wrap_others_are_passed_through(parted: Path, tmp_path: Path) -> None:
    (tmp_path / "archive" / "Animals").mkdir(parents=True)
    parted.rename(tmp_path / "archive" / "Animals" / "parted")
    inner = tmp_path / "archive" / "Animals" / "parted"
    for split, labels in (("test", Counter(owl=1, newt=1)), ("train", Counter(LABELS))):
        dataset = open_dataset(str(tmp_path / "archive"), split=split)
        assert dataset.labels() == labels
        assert dataset.notices == [f"reading {inner}/{split}: the folders above it contain nothing else"]
    _add(tmp_path, "kaggle/train/train/cat/a.png", "kaggle/train/train/dog/a.png", "kaggle/test/1.png")
    twice = open_dataset(str(tmp_path / "kaggle"))
    assert (twice.metadata["split"], twice.labels()) == ("train", Counter(cat=1, dog=1))
    _add(tmp_path, "deep/frogs/2019/a.png", "deep/frogs/b.png")
    assert open_dataset(str(tmp_path / "deep")).labels() == Counter(frogs=2)  # one class


def test_linked_class_folders_are_read_once(tree: Path, tmp_path: Path) -> None:
    _add(tmp_path, "elsewhere/toads/a.png")
    (tree / "toad").symlink_to(tmp_path / "elsewhere" / "toads")
    (tree / "eft").symlink_to(tree / "newt")
    (tree / "all").symlink_to(tree)
    (tree / "newt" / "round").symlink_to(tree / "newt")
    dataset = open_dataset(str(tree))
    assert dataset.labels() == Counter(LABELS) + Counter(toad=1)
    assert dataset.notices == ["left out, because they link to folders of the data set: 'all', 'eft'"]


def test_what_is_left_out_is_counted_over_all_classes(tree: Path) -> None:
    for name in ("owl/a.txt", "newt/b.txt", "newt/c.mov", "newt/Thumbs.db"):
        (tree / name).write_bytes(b"text")
    notice = f"{tree}: 6 images; left out: 2 .txt, 1 .mov"
    assert open_dataset(str(tree)).notices == [notice]


def test_classes_in_file_names_are_seen(tmp_path: Path) -> None:
    _add(tmp_path, "cat.1.png", "cat.2.png", "dog (1).png", "dog (2).png")
    with pytest.raises(EvaluationError) as caught:
        open_dataset(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} has its images directly in it, apparently with classes in their names ('cat', 'dog'):"
        " move each class's images to a folder of its name, or list them in a .csv with the lines image,label"
        " and cat.1.png,cat and pass that"
    )


def test_a_folder_with_empty_classes_only(tmp_path: Path) -> None:
    (tmp_path / "owl").mkdir()
    (tmp_path / "newt").mkdir()
    with pytest.raises(
        EvaluationError, match=r"expected DATASET/CLASS/image.jpg; folders without images: 'newt', 'o"
    ):
        open_dataset(str(tmp_path))
