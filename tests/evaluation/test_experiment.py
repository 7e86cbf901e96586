"""Pictures meet classes: labels, what is left out, and what cannot be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.worlds import problem, save
from tests.kit import write_store

from fieldmarks.classification.results import Progress
from fieldmarks.data import DatasetSpec
from fieldmarks.errors import EvaluationError, ModelError
from fieldmarks.evaluation.arms import EvaluationConfig
from fieldmarks.evaluation.evaluate import open_candidate, run
from fieldmarks.evaluation.experiment import Candidate, Experiment
from fieldmarks.evaluation.results import Evaluation
from fieldmarks.store import Store


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Candidate, Path]:
    """A saved classifier of three classes, and labelled embeddings."""
    head, embeddings = save(problem([2, 2, 2], 30, seed=0), tmp_path)
    return open_candidate(None, head, None), embeddings


def _changed(path: Path, **arrays: object) -> Path:
    with np.load(path) as archive:
        np.savez(path.with_name("changed.npz"), **(dict(archive) | arrays))
    return path.with_name("changed.npz")


def _run(candidate: Candidate, embeddings: Path, *arms: str, ablate: bool = False) -> Evaluation:
    experiment = Experiment.open(DatasetSpec(None, embeddings=embeddings), candidate)
    return run(experiment, EvaluationConfig(arms=arms) if arms else EvaluationConfig(), ablate=ablate)


def test_labels_come_with_the_embeddings(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    setup = Experiment.open(DatasetSpec(None, embeddings=path), opened)
    assert sum(setup.preflight()[1].images.values()) == 30
    assert not setup.computes
    setup, pictures = setup.read()
    assert setup.counts == {f"class {n}": int((pictures.labels == n).sum()) for n in range(3)}
    posed = problem([2, 2, 2], 30, seed=0)
    assert pictures.labels.tolist() == posed.labels.tolist()
    assert pictures.vectors == pytest.approx(posed.images, abs=1e-6)
    assert pictures.names[:2] == ("0.jpg", "1.jpg")


def test_embeddings_without_a_label_are_told(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    labels = [f"class {n % 3}" if n < 28 else "" for n in range(30)]
    done = run(
        Experiment.open(DatasetSpec(None, embeddings=_changed(path, labels=labels)), opened),
        EvaluationConfig(),
    )
    assert len(done.images) == 28
    assert "2 embeddings have no label: left out" in done.notices


def test_numbers_that_are_none_are_failures(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    vectors = np.load(path)["embeddings"]
    vectors[3, 0] = np.nan
    done = run(
        Experiment.open(DatasetSpec(None, embeddings=_changed(path, embeddings=vectors)), opened),
        EvaluationConfig(),
    )
    assert len(done.images) == 29
    assert [failure.image for failure in done.failures] == ["3.jpg"]


def test_equal_embeddings_are_one_image(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    with np.load(path) as archive:
        vectors, labels = archive["embeddings"], archive["labels"]
    twice = _changed(
        path,
        embeddings=np.concatenate([vectors, vectors[:10]]),
        labels=np.concatenate([labels, labels[:10]]),
        images=[f"{number}.jpg" for number in range(40)],
    )
    done = _run(opened, twice, "photo", "descriptors")
    assert done.repeats == tuple((number, number + 30) for number in range(10))
    once = _run(opened, path, "photo", "descriptors").arm.difference
    lead = done.arm.difference
    assert once is not None
    assert lead is not None
    assert lead.p == once.p
    assert lead.low <= once.low < once.high <= lead.high


def test_another_models_embeddings_are_refused(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    changed = _changed(path, embeddings=np.ones((30, 5), np.float32))
    with pytest.raises(ModelError, match="have 5 numbers and the texts' 6"):
        _run(opened, changed)


def test_no_arm_left(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    with pytest.raises(EvaluationError, match="no arm is left to run: a saved classifier has no arm waffle"):
        _run(opened, path, "waffle")


def test_ablation_needs_descriptors(saved: tuple[Candidate, Path]) -> None:
    opened, path = saved
    with pytest.raises(EvaluationError, match="without the arm descriptors"):
        run(
            Experiment.open(DatasetSpec(None, embeddings=path), opened),
            EvaluationConfig(arms=("photo",)),
            ablate=True,
        )


def _store(folder: Path, classes: dict[str, list[str]]) -> Store:
    return Store(write_store(folder / "store.jsonl", classes))


def test_a_class_without_descriptors_takes_part_by_its_name(tmp_path: Path) -> None:
    for name in ("owl", "newt", "toad"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(b"")
    store = _store(tmp_path, {"owl": ["big eyes"], "newt": ["a tail"], "toad": []})
    opened = open_candidate(store, None, tmp_path)
    spec = DatasetSpec(str(tmp_path / "pictures"))
    for allow_missing in (False, True):
        setup = Experiment.open(replace(spec, allow_missing=allow_missing), opened)
        assert setup.matching is not None
        assert setup.matching.class_of == {"owl": "owl", "newt": "newt", "toad": "toad"}
        assert setup.notices == (
            "classes without descriptors: 'toad'; they are read by the prompt of their name, as `fieldmarks"
            " classify` does",
        )
        _, found = setup.preflight()
        assert (found.images, found.left_out) == ({"newt": 1, "owl": 1, "toad": 1}, 0)
    config = EvaluationConfig(arms=("descriptors",), presets=("article", "paper"))
    texts = [arm.trials[0].texts.texts[-1] for arm in opened.arms(config)[0]]
    assert texts == ["a photo of a toad", "toad, which has "]


def test_unreadable_pictures_alone(tmp_path: Path, tiny_clip: Path) -> None:
    (tmp_path / "pictures" / "owl").mkdir(parents=True)
    (tmp_path / "pictures" / "owl" / "1.png").write_bytes(b"")
    opened = open_candidate(_store(tmp_path, {"owl": ["big eyes"]}), None, tiny_clip)
    setup = Experiment.open(DatasetSpec(str(tmp_path / "pictures")), opened)
    heard: list[Progress] = []
    with pytest.raises(EvaluationError, match=r"1 could not be read, .*1\.png first: empty"):
        setup.read(heard.append)
    assert [(progress.done, progress.failed, progress.total) for progress in heard] == [(0, 1, 1)]


def test_classes_with_one_list_are_told(tmp_path: Path) -> None:
    lists = {"owl": ["eyes", "wings"], "newt": ["a tail"], "bat": ["wings", "eyes"]}
    opened = open_candidate(_store(tmp_path, lists), None, tmp_path)
    told = "'owl', 'bat' have the list of another class: their descriptors do not tell them apart"
    assert opened.notices == [told]


def test_a_store_without_descriptors(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="has no class with descriptors"):
        open_candidate(_store(tmp_path, {"owl": []}), None, None)
