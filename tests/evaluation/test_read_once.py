"""A labelled source is read once: opened once or downloaded once, whatever an evaluation asks of it."""

import io
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.kit import write_store

import fieldmarks as fm
from fieldmarks.data.dataset import DataSet, DatasetSpec
from fieldmarks.data.hf import open_table
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.evaluate import open_candidate
from fieldmarks.evaluation.experiment import Candidate, Experiment

LISTS = {"owl": ["big eyes"], "newt": ["a long tail"], "tree frog": ["sticky toes"]}
_opened: list[Counter[str]] = []


def _count(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _opened and isinstance(args[0], str):
        _opened[-1][args[0]] += 1


@contextmanager
def opens() -> Iterator[Counter[str]]:
    """Count how often each file is opened, by whatever means Python has."""
    if not hasattr(sys, "_fieldmarks_counts_opens"):
        sys._fieldmarks_counts_opens = True  # type: ignore[attr-defined]  # a hook cannot be taken away
        sys.addaudithook(_count)
    _opened.append(Counter())
    try:
        yield _opened[-1]
    finally:
        _opened.pop()


def _png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (number, 255 - number, 7)).save(file, "PNG")
    return file.getvalue()


def _tar(path: Path, labels: Sequence[str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for number, label in enumerate(labels):
            for end, data in (("png", _png(number)), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{number:04}.{end}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def store(tmp_path: Path) -> fm.Store:
    """A store of three classes."""
    path = write_store(tmp_path / "store.jsonl", LISTS)
    return fm.Store(path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
def test_a_tar_is_opened_once(store: fm.Store, tiny_clip: Path, tmp_path: Path, name: str, mode: str) -> None:
    path = _tar(tmp_path / name, ["owl", "Tree_Frog", "newt"] * 4, mode)
    arms = ["photo", "descriptors"]
    with opens() as opened:
        result = fm.evaluate(store, path, clip=tiny_clip, arms=arms, ablate=True, thumbnails=True)
    assert opened[str(path)] == 1
    assert len(result.images) == 12
    assert result.examples
    assert all((example.prediction.thumbnail or b"").startswith(b"\xff\xd8") for example in result.examples)
    with opens() as opened:  # a limit is spread evenly, so that the images are counted before
        limited = fm.evaluate(store, path, clip=tiny_clip, arms=arms, limit=4)
    assert opened[str(path)] == 2
    assert len(limited.images) == 4


def test_preflight_opens_a_tar_once(store: fm.Store, tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", ["owl", "newt", "owl", "kiwi"])
    with opens() as opened:
        experiment = Experiment.open(DatasetSpec(str(path)), open_candidate(store, None, None), strict=False)
        experiment, found = experiment.preflight()
    assert opened[str(path)] == 1
    assert (found.images, found.left_out) == ({"owl": 2, "newt": 1}, 1)
    assert experiment.matching is not None
    assert experiment.matching.unknown_labels == ("kiwi",)


@pytest.mark.slow
def test_images_of_a_folder_are_opened_once(store: fm.Store, tiny_clip: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "photos" / name / f"{n}.png" for name in LISTS for n in range(3)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png(number))
    with opens() as opened:
        fm.evaluate(store, tmp_path / "photos", clip=tiny_clip, thumbnails=True)
    assert {opened[str(path)] for path in paths} == {1}


@pytest.mark.slow
def test_labels_of_a_tar_are_matched_at_its_end(store: fm.Store, tiny_clip: Path, tmp_path: Path) -> None:
    """As for a folder, all labels without a class are named; with leave, they are left out."""
    path = _tar(tmp_path / "a.tar", ["owl", "kiwi", "newt", "dodo", "tree_frog"])
    said = r"labels without a class in the store: 'kiwi', 'dodo'"
    with pytest.raises(EvaluationError, match=said):
        fm.evaluate(store, path, clip=tiny_clip)
    result = fm.evaluate(store, path, clip=tiny_clip, arms=["photo"], allow_missing=True)
    assert [Path(image).name for image in result.images] == ["0000.png", "0002.png", "0004.png"]
    assert [result.classes[label] for label in result.labels] == ["owl", "newt", "tree frog"]
    assert "left out: labels without a class in the store: 'kiwi', 'dodo'" in result.notices


def test_a_letters_only_match_waits_for_all_labels(store: fm.Store, tiny_clip: Path, tmp_path: Path) -> None:
    """`treefrog` may stand for the class until a second label could mean it too."""
    path = _tar(tmp_path / "a.tar", ["owl", "treefrog", "newt", "tree frog"])
    result = fm.evaluate(store, path, clip=tiny_clip, arms=["photo"], allow_missing=True)
    assert [Path(image).name for image in result.images] == ["0000.png", "0002.png", "0003.png"]
    assert any("'treefrog'" in notice for notice in result.notices)


def test_equal_images_are_told(store: fm.Store, tiny_clip: Path, tmp_path: Path) -> None:
    for name, data in {"owl/a": _png(1), "owl/b": _png(1), "newt/c": _png(2), "tree frog/d": _png(2)}.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / f"{name}.png").write_bytes(data)
    result = fm.evaluate(store, tmp_path / "photos", clip=tiny_clip, arms=["photo"])
    repeated = "images that repeat another of their class, byte for byte: 1, such as "
    assert any(notice.startswith(repeated) for notice in result.notices)
    assert any(notice.startswith("images that lie in several classes") for notice in result.notices)


class _Stream:
    """Rows that are downloaded anew by each pass, as those of a stream are."""

    count = None

    def __init__(self) -> None:
        self.passes: list[Sequence[str]] = []

    @property
    def features(self) -> Mapping[str, Any]:
        image, label = type("Image", (), {})(), type("Value", (), {"dtype": "string"})()
        return {"image": image, "label": label}

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        self.passes.append(columns)
        for number, label in enumerate(["owl", "newt", "tree frog"]):
            yield {"image": {"bytes": _png(number), "path": None}, "label": label}


@pytest.mark.parametrize("limit", [None, 2])
def test_a_stream_is_downloaded_once(store: fm.Store, tiny_clip: Path, limit: int | None) -> None:
    rows = _Stream()
    spec = DatasetSpec("hf:some/birds", limit=limit, streaming=True)
    dataset: DataSet = open_table(spec, rows, "test", {}, [])
    candidate: Candidate = open_candidate(store, None, tiny_clip)
    experiment, images = Experiment(spec, candidate, dataset, True, ()).read()
    assert rows.passes == [["image", "label"]]
    assert images.labels.tolist() == np.arange(3)[:limit].tolist()
    assert experiment.counts == dict.fromkeys(list(LISTS)[:limit], 1)
