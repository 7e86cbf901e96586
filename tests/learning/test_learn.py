"""`fm.learn`: what is learned, what is kept, what is written, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.kit import logged

import fieldmarks as fm
from fieldmarks.classification.classifier_file import ClassifierFile, load_head
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import EvaluationError, ModelError, UsageError
from fieldmarks.learning.learn import Learned
from fieldmarks.learning.strength import STRENGTHS, Steps

Files = tuple[Path, Path]


def learn(files: Files, **options: object) -> Learned:
    """Learn from embeddings in a file, for a saved classifier."""
    return fm.learn(classifier=files[0], embeddings=files[1], **options)  # type: ignore[arg-type]


def images_of(path: Path) -> tuple[Array, list[str]]:
    """Return the vectors and labels of an archive."""
    with np.load(path) as archive:
        return archive["embeddings"], archive["labels"].tolist()


def accuracy(head: Head, path: Path) -> float:
    """Return the share of images that a head classifies correctly."""
    vectors, labels = images_of(path)
    best = head.logits(vectors).argmax(axis=1)
    return float(np.mean([head.classes[at] == label for at, label in zip(best, labels, strict=True)]))


def keep(path: Path, rows: list[int], labels: list[str] | None = None) -> Path:
    """Write some rows of an archive as another archive, and return its path."""
    vectors, known = images_of(path)
    chosen = [known[row] for row in rows] if labels is None else labels
    target = path.with_name(f"kept-{len(list(path.parent.iterdir()))}.npz")
    names = [f"{number}.jpg" for number in range(len(rows))]
    np.savez(target, embeddings=vectors[rows], images=names, labels=chosen)
    return target


def test_wrong_descriptors_lose_their_weight(damaged: Files) -> None:
    learned = learn(damaged, shots=8)
    head = learned.classifier.head
    before, after = accuracy(load_head(damaged[0]), damaged[1]), accuracy(head, damaged[1])
    assert before < 0.7
    assert after > 0.9
    weights = head.pooling.weights
    assert weights is not None
    assert weights.min() == 0
    right = np.array([text.startswith("right") for text in head.texts.descriptors])
    assert weights[:, ~right].sum() < 0.2 * weights.sum()
    assert not learned.is_zero_shot
    assert "zero-shot" in learned.notes[1]


def test_sound_descriptors_keep_equal_weights(sound: Files) -> None:
    learned = learn(sound, shots=8)
    assert accuracy(learned.classifier.head, sound[1]) >= accuracy(load_head(sound[0]), sound[1]) - 0.005
    assert learned.images == 32


def test_one_shot_keeps_zero_shot_and_says_why(damaged: Files) -> None:
    learned = learn(damaged, shots=1)
    assert learned.is_zero_shot
    assert learned.notes[0].startswith("equal weights kept: with one image a class")
    head = learned.classifier.head
    assert head.pooling.name == "mean-similarity"
    assert (head.pooling.weights, head.bias) == (None, None)
    assert "mean-similarity answers" not in "".join(learned.notes)  # as it answers the same


def test_a_given_strength_is_taken(damaged: Files) -> None:
    assert learn(damaged, shots=4, strength=float("inf")).is_zero_shot
    learned = learn(damaged, shots=4, strength=0.01)
    assert learned.notes == ("strength 0.01, as given",)
    assert learned.to_dict()["strength"] == 0.01


def test_shared_weights_reach_other_classes(damaged: Files) -> None:
    head = learn(damaged, shots=8, shared=True, strength=0.001).classifier.head
    weights = head.pooling.weights
    assert weights is not None
    other = np.array(head.texts.owner)[None, :] != np.arange(len(head.classes))[:, None]
    assert np.abs(weights[other]).max() > 0.01
    assert weights.min() < 0


@pytest.mark.parametrize("shared", [False, True])
def test_marks_with_their_weights_sum_to_the_logit(damaged: Files, shared: bool) -> None:
    learned = learn(damaged, shots=8, shared=shared, strength=0.01)
    vectors, _ = images_of(damaged[1])
    rows = [Embedded(f"{at}.jpg", vector) for at, vector in enumerate(vectors[:20])]
    for prediction in learned.classifier.score(rows, explain=True):
        assert isinstance(prediction, fm.Prediction)
        explanation = prediction.explanation
        assert explanation is not None
        for score, marks, offset in zip(
            prediction.scores,
            (explanation.predicted, explanation.runner_up),
            explanation.offsets,
            strict=False,
        ):
            total = sum(mark.contribution or 0.0 for mark in marks) + offset
            assert total == pytest.approx(score.logit, abs=1e-3)
            own = [mark for mark in marks if mark.source is None]
            for mark in own:
                assert mark.contribution == pytest.approx(
                    (mark.weight or 0) / len(own) * mark.logit, abs=1e-4
                )
        assert fm.Prediction.from_dict(prediction.to_dict()) == prediction


def test_the_file_holds_all_of_it(damaged: Files, tmp_path: Path) -> None:
    learned = learn(damaged, shots=8)
    learned.save(tmp_path / "learned.safetensors")
    head, saved = learned.classifier.head, load_head(tmp_path / "learned.safetensors")
    vectors, _ = images_of(damaged[1])
    np.testing.assert_array_equal(head.logits(vectors), saved.logits(vectors))
    assert saved.digests is not None
    assert saved.digests.shape == (32, 16)
    assert json.loads(saved.metadata["learned"]) == learned.to_dict()


@pytest.mark.slow
def test_the_file_works_in_a_fresh_process_without_what_it_was_made_of(
    damaged: Files, tmp_path: Path
) -> None:
    learn(damaged, shots=8).save(tmp_path / "learned.safetensors")
    damaged[0].unlink()
    command = ["classify", "--image-embeddings", str(damaged[1]), "--classifier"]
    command += [str(tmp_path / "learned.safetensors"), "--format", "jsonl", "--explain"]
    shown = subprocess.run(
        [sys.executable, "-m", "fieldmarks", *command], capture_output=True, text=True, check=True
    )
    labels = images_of(damaged[1])[1]
    answers = [json.loads(line)["label"] for line in shown.stdout.splitlines()]
    assert np.mean([answer == label for answer, label in zip(answers, labels, strict=True)]) > 0.9


def test_an_evaluation_warns_of_images_that_were_learned_from(damaged: Files, tmp_path: Path) -> None:
    learn(damaged, shots=8).save(tmp_path / "learned.safetensors")
    with logged() as messages:
        result = fm.evaluate(classifier=tmp_path / "learned.safetensors", embeddings=damaged[1])
    notice = "this classifier was learned or calibrated on 32 of 120 images: "
    assert any(text.startswith(notice) for text in messages)
    assert any(text.startswith(notice) for text in result.notices)
    vectors = images_of(damaged[1])[0]
    other = keep(damaged[1], list(range(3)))
    fresh = np.load(other)
    np.savez(other, embeddings=vectors[:3] + np.float32(0.01), images=fresh["images"], labels=fresh["labels"])
    result = fm.evaluate(classifier=tmp_path / "learned.safetensors", embeddings=other)
    assert not any("learned or calibrated" in text for text in result.notices)


@pytest.mark.slow
def test_it_is_the_same_each_time_and_another_with_another_seed(damaged: Files) -> None:
    vectors, _ = images_of(damaged[1])
    first, second, other = (
        learn(damaged, shots=8, seed=seed).classifier.head.logits(vectors) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_equal_images_count_once(damaged: Files) -> None:
    rows = [*range(120), *range(5)]
    with logged() as messages:
        learned = fm.learn(classifier=damaged[0], embeddings=keep(damaged[1], rows))
    assert learned.images == 120
    assert "5 images left out: equal to another of the class" in messages


def test_classes_with_fewer_images_than_shots_are_named(damaged: Files) -> None:
    rows = [at for at in range(120) if at not in range(4, 30)]
    with logged() as messages:
        learned = fm.learn(classifier=damaged[0], embeddings=keep(damaged[1], rows), shots=8)
    assert learned.images == 4 + 3 * 8
    assert "fewer than 8 images: 'class 0'; all of them are used" in messages


def test_what_cannot_be_learned_from_is_refused(damaged: Files, sound: Files) -> None:
    classifier, images = damaged
    with pytest.raises(EvaluationError, match=r"1 class without images: 'class 0': learning needs images"):
        fm.learn(classifier=classifier, embeddings=keep(images, list(range(30, 120))))
    twice = keep(images, [*range(120), 0], [*images_of(images)[1], "class 1"])
    with pytest.raises(EvaluationError, match="the label 'class 1', and an equal image has 'class 0'"):
        fm.learn(classifier=classifier, embeddings=twice)
    unknown = keep(images, list(range(120)), [*images_of(images)[1][:-1], "cow"])
    with pytest.raises(EvaluationError, match="cow"):
        fm.learn(classifier=classifier, embeddings=unknown)
    with pytest.raises(UsageError, match="either --store or --classifier"):
        fm.learn(embeddings=images)
    with pytest.raises(UsageError, match="shots: expected at least 1"):
        learn(damaged, shots=0)
    for strength in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="strength: expected a number"):
            learn(damaged, strength=strength)
    with pytest.raises(UsageError, match="go with --store"):
        learn(damaged, preset="paper")
    with pytest.raises(UsageError, match="did you mean 'shots'"):
        learn(damaged, shot=3)


def test_images_of_another_model_are_refused(damaged: Files, tmp_path: Path) -> None:
    head = load_head(damaged[0])
    wide = Head(head.texts, np.pad(head.embeddings, ((0, 0), (0, 8))), 20.0)
    ClassifierFile(tmp_path / "wide.safetensors").write(wide)
    with pytest.raises(ModelError, match="32 numbers and the texts' 40: they come from different models"):
        learn((tmp_path / "wide.safetensors", damaged[1]))


def test_one_class_is_refused(damaged: Files, tmp_path: Path) -> None:
    head = load_head(damaged[0])
    lone = Head(
        type(head.texts)(("class 0",), (0,), head.texts.descriptors[:1], head.texts.texts[:1]),
        head.embeddings[:1],
        20.0,
    )
    ClassifierFile(tmp_path / "lone.safetensors").write(lone)
    with pytest.raises(EvaluationError, match="there is one class, 'class 0': learning needs at least two"):
        learn((tmp_path / "lone.safetensors", damaged[1]), allow_missing=True)


def test_each_fit_of_the_cross_validation_is_reported(damaged: Files) -> None:
    seen: list[Steps] = []
    learn(damaged, shots=8, progress=lambda step: seen.append(step) if isinstance(step, Steps) else None)
    assert [step.done for step in seen] == list(range(len(seen)))
    assert len(seen) % 5 == 1  # none is done yet, then all folds of each strength
    assert {step.total for step in seen} == {5 * len(STRENGTHS)}
