"""`fm.calibrate`: what the file holds, what a calibrated classifier answers, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.kit import logged
from tests.learning.test_learn import images_of, keep, learn

import fieldmarks as fm
from fieldmarks.classification.classifier_file import load_head
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.scoring import Array
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.learning.calibrate import Calibrated

Files = tuple[Path, Path]


def calibrate(files: Files, **options: object) -> Calibrated:
    """Calibrate a saved classifier on embeddings in a file."""
    return fm.calibrate(classifier=files[0], embeddings=files[1], **options)  # type: ignore[arg-type]


def predictions(calibrated: Calibrated, vectors: Array) -> list[fm.Prediction]:
    """Return what a calibrated classifier answers, with its reasons and sets."""
    rows = [Embedded(f"{at}.jpg", vector) for at, vector in enumerate(vectors)]
    scored = calibrated.classifier.score(rows, abstain=True, sets=True, top=2)
    return [prediction for prediction in scored if isinstance(prediction, fm.Prediction)]


def unlike_all(count: int, dim: int) -> Array:
    """Return images of no class."""
    return np.random.default_rng(77).standard_normal((count, dim)).astype(np.float32)


def test_images_of_no_class_are_rejected_and_few_of_its_own(sound: Files) -> None:
    calibrated = calibrate(sound, false_rejections=0.1)
    vectors, labels = images_of(sound[1])
    own = predictions(calibrated, vectors)
    rejected = np.array([prediction.reason is not None for prediction in own])
    assert rejected.mean() <= 0.1
    others = predictions(calibrated, unlike_all(100, vectors.shape[1]))
    assert np.mean([prediction.reason is not None for prediction in others]) > 0.7
    nothing = next(prediction for prediction in others if prediction.reason)
    assert nothing.label is None
    assert nothing.reason is not None
    assert "is under its threshold" in nothing.reason
    assert "(none of these)" in repr(nothing)
    assert fm.Prediction.from_dict(nothing.to_dict()) == nothing
    sets = [prediction.labels for prediction in own]
    held = [label in (names or ()) for label, names in zip(labels, sets, strict=True)]
    assert np.mean(held) >= 0.95
    assert np.mean([len(names or ()) for names in sets]) < 2


def test_the_temperature_makes_probabilities_confidences(sound: Files) -> None:
    calibrated = calibrate(sound)
    record = calibrated.to_dict()
    assert record["error_after"] < record["error_before"]
    assert record["images"] == calibrated.images == 120
    assert calibrated.notes[0].startswith("temperature ")
    assert calibrated.classifier.head.scale == pytest.approx(1 / record["temperature"])


def test_the_file_holds_all_of_it_and_learning_anew_drops_it(sound: Files, tmp_path: Path) -> None:
    calibrated = calibrate(sound)
    path = tmp_path / "calibrated.safetensors"
    calibrated.save(path)
    head, saved = calibrated.classifier.head, load_head(path)
    assert saved.temperature == head.temperature
    assert saved.conformal_quantile == head.conformal_quantile
    assert saved.thresholds is not None
    np.testing.assert_array_equal(saved.thresholds, head.thresholds)
    assert saved.metadata["calibrated"] == head.metadata["calibrated"]
    again = learn((path, sound[1]), strength=0.1).classifier.head
    assert (again.temperature, again.thresholds, again.conformal_quantile) == (None, None, None)
    assert "calibrated" not in again.metadata


def test_images_that_were_learned_from_do_not_calibrate(sound: Files, tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    learn(sound, shots=8).save(path)
    with logged() as messages:
        calibrated = calibrate((path, sound[1]))
    assert calibrated.images == 120 - 32
    assert "32 images left out: the classifier was made from them" in messages
    digests = calibrated.classifier.head.digests
    assert digests is not None
    assert len(np.unique(digests, axis=0)) == 120
    calibrated.save(path)
    with pytest.raises(EvaluationError, match="no images are left to calibrate on"):
        calibrate((path, sound[1]))


def test_few_images_are_said_to_be_few(sound: Files) -> None:
    few = calibrate((sound[0], keep(sound[1], [0, 31, 62, 93])))
    assert few.notes[1].startswith("no thresholds: 4 images are too few")
    assert few.notes[2] == "sets hold every class: 0.95 coverage needs 19 images"
    assert few.notes[3] == (
        "no errors on these images, too few to determine the temperature (that takes 10): it is kept so high"
        " that the mean confidence is at most 90.0%"
    )
    some = calibrate((sound[0], keep(sound[1], [*range(25), *range(30, 45), 70, 100])))
    assert some.notes[1].startswith("3 classes of 4 with fewer than 20 images")
    assert some.to_dict()["pooled"] == ["class 1", "class 2", "class 3"]


def test_what_cannot_be_is_refused(sound: Files) -> None:
    for shares in ({"coverage": 1.0}, {"false_rejections": 0.0}):
        with pytest.raises(UsageError, match="expected a share between 0 and 1"):
            calibrate(sound, **shares)
    plain = fm.Classifier.load(sound[0])
    for option in ("abstain", "sets"):
        with pytest.raises(UsageError, match=f"{option} needs a classifier that `fieldmarks calibrate`"):
            plain.score([], **{option: True})  # type: ignore[arg-type]


def test_the_commands(sound: Files, tmp_path: Path, runner: CliRunner) -> None:
    out = tmp_path / "out.safetensors"
    inputs = ["--classifier", str(sound[0]), "--image-embeddings", str(sound[1]), "-o", str(out)]
    result = runner.invoke(main, ["calibrate", *inputs, "--false-rejections", "0.1"])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1].startswith("Calibrated on 120 images: temperature ")
    again = runner.invoke(main, ["calibrate", *inputs])
    assert (again.exit_code, again.stderr) == (
        1,
        f"Error: {out} already exists: choose another name, or pass --force\n",
    )
    strange = tmp_path / "strange.npz"
    np.savez(strange, embeddings=unlike_all(20, images_of(sound[1])[0].shape[1]))
    images = ["--image-embeddings", str(strange), "--classifier", str(out)]
    shown = runner.invoke(main, ["classify", *images, "--abstain", "--sets"])
    assert shown.exit_code == 0, shown.output
    assert "(none of these)" in shown.stdout
    assert "is under its threshold" in shown.stdout
    assert "one of: class " in shown.stdout
    refused = runner.invoke(main, ["classify", *images[:2], "--classifier", str(sound[0]), "--abstain"])
    assert refused.exit_code == 2
    assert "Error: --abstain needs a classifier" in refused.stderr
