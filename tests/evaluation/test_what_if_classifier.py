"""what-if of a saved classifier: what it does to texts and weights, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.evaluation.worlds import draw_species, save
from tests.learning.conftest import wrong_descriptors

import fieldmarks as fm
from fieldmarks.classification.classifier_file import ClassifierFile, load_head
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError, StoreError, UsageError
from fieldmarks.evaluation.what_if import WhatIf, what_if

Files = tuple[Path, Path]


def changed(files: Files, **change: list[str]) -> WhatIf:
    """Return what a change of the first class does."""
    return what_if(None, "class 0", classifier=files[0], embeddings=files[1], **change)  # type: ignore[arg-type]


def accuracy(path: Path, kept: Path) -> float:
    """Return a saved classifier's accuracy."""
    return fm.evaluate(classifier=path, embeddings=kept, arms=["descriptors"]).arm.top1.value


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A saved classifier of two right and two wrong descriptors a class, and labelled embeddings."""
    return save(wrong_descriptors(2, 2), tmp_path)


@pytest.fixture
def learned(files: Files, tmp_path: Path) -> Files:
    """The same with learned weights."""
    fm.learn(classifier=files[0], embeddings=files[1], strength=0.1).save(tmp_path / "learned.safetensors")
    return tmp_path / "learned.safetensors", files[1]


@pytest.mark.parametrize("is_learned", [False, True])
def test_it_is_what_a_file_without_the_text_gives(files: Files, learned: Files, is_learned: bool) -> None:
    given = learned if is_learned else files
    result = changed(given, drop=["3", "wrong 1 of class 0"])
    assert result.dropped == ("wrong 0 of class 0", "wrong 1 of class 0")
    head = load_head(given[0])
    keep = np.array([text not in result.dropped for text in head.texts.descriptors])
    weights = head.pooling.weights
    if weights is not None:
        total = weights[0].sum()
        weights = weights[:, keep]
        weights[0] *= total / weights[0].sum()
    rows = np.flatnonzero(keep).tolist()
    texts = replace(
        head.texts,
        **{
            key: tuple(getattr(head.texts, key)[row] for row in rows)
            for key in ("owner", "descriptors", "texts")
        },
    )
    pooling = replace(head.pooling, weights=weights)
    expected = replace(head, texts=texts, embeddings=head.embeddings[keep], pooling=pooling)
    path = given[0].with_name("expected.safetensors")
    ClassifierFile(path).write(expected)
    assert result.before == pytest.approx(accuracy(*given))
    assert result.after == pytest.approx(accuracy(path, given[1]))
    assert result.after > result.before if not is_learned else result.after > 0.5
    assert load_head(given[0]).texts == head.texts  # the file is not modified


def test_what_a_learned_classifier_cannot_say_is_refused(learned: Files, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="has no weight for a new descriptor: learn again with it"):
        changed(learned, add=["red eyes"])
    with pytest.raises(EvaluationError, match="nothing would be left of 'class 0'"):
        changed(learned, drop=["1", "2", "3", "4"])
    fm.learn(classifier=learned[0], embeddings=learned[1], strength=0.1, shared=True).save(
        tmp_path / "shared.safetensors"
    )
    with pytest.raises(EvaluationError, match="shared between the texts of all classes"):
        changed((tmp_path / "shared.safetensors", learned[1]), drop=["1"])


def test_options_that_have_no_place_are_refused(files: Files, runner: CliRunner) -> None:
    with pytest.raises(UsageError, match="go with --store"):
        what_if(None, "class 0", classifier=files[0], embeddings=files[1], drop=["1"], preset="paper")
    with pytest.raises(StoreError, match="class 9"):
        what_if(None, "class 9", classifier=files[0], embeddings=files[1], drop=["1"])
    given = ["what-if", "class 0", "--image-embeddings", str(files[1]), "--drop", "1"]
    for sources in ([], ["--classifier", str(files[0]), "--store", "demo"]):
        result = runner.invoke(main, [*given, *sources])
        assert result.exit_code == 2
        assert "give either --store or --classifier" in result.stderr
    result = runner.invoke(main, [*given, "--classifier", str(files[0])])
    assert result.exit_code == 0, result.output
    assert "class 0 without 'right 0 of class 0'" in result.stdout


@pytest.mark.slow
def test_a_new_descriptor_is_worded_as_the_saved_ones(tmp_path: Path, demo_clip: Path) -> None:
    store = draw_species(tmp_path, 3, 3)
    text = "{class}: {descriptor}"
    classifier = fm.Classifier(store, clip=demo_clip, text=text)
    classifier.save(tmp_path / "saved.safetensors")
    name = classifier.classes[0]
    results = [
        what_if(of_store, name, tmp_path / "pictures", add=["huge wings"], drop=["1"], clip=demo_clip, **more)
        for of_store, more in (
            (store, {"text": text}),
            (None, {"classifier": tmp_path / "saved.safetensors"}),
        )
    ]
    assert results[0].to_dict() == results[1].to_dict()
