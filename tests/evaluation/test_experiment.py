"""Pictures meet classes: labels, what is left out, and what cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.worlds import problem, save

from fieldmarks.classification.embedder import EncoderOptions
from fieldmarks.data import Source
from fieldmarks.errors import EvaluationError, ModelError
from fieldmarks.evaluation import candidate
from fieldmarks.evaluation.arms import Wanted
from fieldmarks.evaluation.evaluate import evaluate
from fieldmarks.evaluation.experiment import Data, Setup
from fieldmarks.evaluation.predictions import Progress
from fieldmarks.store import Store


@pytest.fixture
def saved(tmp_path: Path) -> tuple[candidate.Subject, Path]:
    """A saved classifier of three classes, and labelled embeddings."""
    head, embeddings = save(problem([2, 2, 2], 30, seed=0), tmp_path)
    return candidate.of_file(head, EncoderOptions()), embeddings


def _changed(path: Path, **arrays: object) -> Path:
    with np.load(path) as archive:
        np.savez(path.with_name("changed.npz"), **(dict(archive) | arrays))
    return path.with_name("changed.npz")


def test_labels_come_with_the_embeddings(saved: tuple[candidate.Subject, Path]) -> None:
    opened, path = saved
    setup = Setup.open(Data(embeddings=path), opened)
    assert sum(setup.preflight().pictures.values()) == 30
    assert not setup.computes
    pictures = setup.pictures(lambda progress: None)
    posed = problem([2, 2, 2], 30, seed=0)
    assert pictures.labels.tolist() == posed.labels.tolist()
    assert pictures.vectors == pytest.approx(posed.images, abs=1e-6)
    assert pictures.images[:2] == ("0.jpg", "1.jpg")


def test_embeddings_without_a_label_are_told(saved: tuple[candidate.Subject, Path]) -> None:
    opened, path = saved
    labels = [f"class {n % 3}" if n < 28 else "" for n in range(30)]
    done = evaluate(Setup.open(Data(embeddings=_changed(path, labels=labels)), opened), Wanted())
    assert len(done.images) == 28
    assert "2 embeddings have no label: left out" in done.notices


def test_numbers_that_are_none_are_failures(saved: tuple[candidate.Subject, Path]) -> None:
    opened, path = saved
    vectors = np.load(path)["embeddings"]
    vectors[3, 0] = np.nan
    done = evaluate(Setup.open(Data(embeddings=_changed(path, embeddings=vectors)), opened), Wanted())
    assert len(done.images) == 29
    assert [one.image for one in done.failures] == ["3.jpg"]


def test_another_models_embeddings_are_refused(saved: tuple[candidate.Subject, Path]) -> None:
    opened, path = saved
    changed = _changed(path, embeddings=np.ones((30, 5), np.float32))
    with pytest.raises(ModelError, match="have 5 numbers and the texts' 6"):
        evaluate(Setup.open(Data(embeddings=changed), opened), Wanted())


def test_no_arm_left(saved: tuple[candidate.Subject, Path]) -> None:
    opened, path = saved
    with pytest.raises(EvaluationError, match="no arm is left to run: the arm waffle is left out"):
        evaluate(Setup.open(Data(embeddings=path), opened), Wanted(arms=("waffle",)))


def test_ablation_needs_descriptors(saved: tuple[candidate.Subject, Path]) -> None:
    opened, path = saved
    with pytest.raises(EvaluationError, match="without the arm descriptors"):
        evaluate(Setup.open(Data(embeddings=path), opened), Wanted(arms=("photo",)), ablate=True)


def _store(folder: Path, classes: dict[str, list[str]]) -> Store:
    lines = (json.dumps({"class": name, "descriptors": listed}) for name, listed in classes.items())
    (folder / "store.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return Store(folder / "store.jsonl")


def test_an_empty_class_takes_no_part(tmp_path: Path) -> None:
    for name in ("owl", "newt", "toad"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(b"")
    store = _store(tmp_path, {"owl": ["big eyes"], "newt": ["a tail"], "toad": []})
    opened = candidate.of_store(store, EncoderOptions(clip=str(tmp_path)).embedder())
    data = Data(source=Source(str(tmp_path / "pictures")))
    with pytest.raises(EvaluationError, match="classes without descriptors: 'toad'"):
        Setup.open(data, opened)
    setup = Setup.open(Data(source=data.source, allow_missing=True), opened)
    assert setup.matching.class_of == {"owl": "owl", "newt": "newt"}
    assert setup.notices == ("left out: classes without descriptors: 'toad'",)
    found = setup.preflight()
    assert (found.pictures, found.left_out) == ({"newt": 1, "owl": 1}, 1)


def test_unreadable_pictures_alone(tmp_path: Path, tiny_clip: Path) -> None:
    (tmp_path / "pictures" / "owl").mkdir(parents=True)
    (tmp_path / "pictures" / "owl" / "1.png").write_bytes(b"")
    opened = candidate.of_store(
        _store(tmp_path, {"owl": ["big eyes"]}), EncoderOptions(clip=str(tiny_clip)).embedder()
    )
    setup = Setup.open(Data(source=Source(str(tmp_path / "pictures"))), opened)
    heard: list[Progress] = []
    with pytest.raises(EvaluationError, match=r"1 could not be read, .*1\.png first: empty"):
        setup.pictures(heard.append)
    assert [(one.done, one.failed, one.total) for one in heard] == [(0, 1, 1)]


def test_classes_with_one_list_are_told(tmp_path: Path) -> None:
    lists = {"owl": ["eyes", "wings"], "newt": ["a tail"], "bat": ["wings", "eyes"]}
    opened = candidate.of_store(_store(tmp_path, lists), EncoderOptions(clip=str(tmp_path)).embedder())
    told = "'owl', 'bat' have the list of another class: their descriptors do not tell them apart"
    assert opened.notices == [told]


def test_a_store_without_descriptors(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="has no class with descriptors"):
        candidate.of_store(_store(tmp_path, {"owl": []}), EncoderOptions().embedder())
