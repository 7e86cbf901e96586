"""What is told of a data set before it is scored."""

import tarfile
from pathlib import Path

import pytest
from tests.data.conftest import LABELS, png

from fieldmarks.data import DataSet, open_dataset
from fieldmarks.data.check import Equal, Preflight, inspect
from fieldmarks.data.labels import match

CLASSES = ["newt", "owl", "tree frog", "yeti"]


def _inspect(dataset: DataSet) -> Preflight:
    return inspect(dataset, lambda labels: match(labels, CLASSES))


def test_pictures_are_counted(tree: Path) -> None:
    found = _inspect(open_dataset(str(tree)))
    assert found == Preflight(dict(sorted(LABELS.items())), ("yeti",))
    assert found.rows() == [("tree frog", "3"), ("owl", "2"), ("newt", "1"), ("yeti", "0")]
    assert found.notices() == []


def test_equal_pictures_are_found_in_files_and_in_tars(tree: Path, tmp_path: Path) -> None:
    (tree / "owl" / "copy.png").write_bytes((tree / "owl" / "0.png").read_bytes())
    (tree / "tree frog" / "stray.png").write_bytes((tree / "newt" / "0.png").read_bytes())
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tree, "animals")
    for spec in (tree, tmp_path / "a.tar"):
        found = _inspect(open_dataset(str(spec)))
        short = {
            tuple(sorted(Path(name).name for name in group.images)): group.across for group in found.equal
        }
        assert short == {("0.png", "copy.png"): False, ("0.png", "stray.png"): True}
        plain = found.to_dict()
        assert plain["images"] == {"newt": 1, "owl": 3, "tree frog": 4}
        assert plain["classes_without_images"] == ["yeti"]
        assert plain["equal_across_classes"]["groups"] == 1
        assert set(plain["equal_across_classes"]["first"][0]["classes"]) == {"newt", "tree frog"}
        across, within = found.notices()
        assert across.startswith("images that lie in several classes, byte for byte: 1, such as '")
        assert within.startswith("images that repeat another of their class, byte for byte: 1, such as '")
        assert ", which repeats '" in within


def test_labels_without_class_and_failures_are_counted_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.jsonl").write_text(
        '{"image": "a.png", "label": "unicorn"}\n{"image": "a.png", "label": null}\n'
        '{"image": "gone.png", "label": "owl"}\n{"image": "gone.png", "label": "newt"}'
    )
    found = _inspect(open_dataset("b.jsonl"))
    assert (found.left_out, found.failures, found.equal) == (1, 1, ())
    assert (found.images, found.without_images) == ({}, ("tree frog", "yeti", "owl", "newt"))
    assert found.missing == ("gone.png", "gone.png")
    assert found.to_dict()["missing"] == {"images": 2, "first": list(found.missing)}
    assert found.notices() == ["2 images missing: 'gone.png', 'gone.png'"]


def test_a_thousand_classes_fit_a_screen() -> None:
    pictures = {f"class {number} " + "x" * 300 + "\x1b": number for number in range(1, 1000)}
    rows = Preflight(pictures, ("none\n",)).rows()
    assert len(rows) == 13
    assert [count for _, count in rows[:6]] == ["999", "998", "997", "996", "995", "994"]
    assert rows[6] == ("… 988 more", "6–993")
    assert rows[-1] == ("none\\n", "0")
    assert all(len(name) <= 60 and name.isprintable() for name, _ in rows)
    assert [count for _, count in Preflight(dict.fromkeys(map(str, range(20)), 5)).rows()][6] == "5"


def test_names_in_notices_are_printable() -> None:
    equal = Equal(("a\x1b[2J.png", "b.png", "c.png"), ("owl", "owl", "newt"))
    (told,) = Preflight({}, (), (equal,)).notices()
    assert told.endswith(r"such as 'a\x1b[2J.png' in 'owl' and 'c.png' in 'newt'")
