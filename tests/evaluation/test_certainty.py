"""Confidence: figures against their plainest definitions, and intervals over simulations."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.worlds import problem, save

import fieldmarks as fm
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError, ModelError, UsageError
from fieldmarks.evaluation.certainty import (
    Floats,
    Truths,
    aurc,
    aurc_interval,
    auroc,
    calibration_error,
    reliability_bins,
    risk_curve,
)

pairs = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12)
)
def test_auroc_is_how_often_a_known_image_is_above_an_unknown_one(
    known: list[int], unknown: list[int]
) -> None:
    found = auroc(np.array(known, float), np.array(unknown, float))
    above = [(a > b) + 0.5 * (a == b) for a, b in product(known, unknown)]
    assert found.value == pytest.approx(np.mean(above))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.01


@given(pairs)
def test_the_risk_is_the_error_among_the_surest(images: list[tuple[int, bool]]) -> None:
    sure, right = np.array([a for a, _ in images], float), np.array([b for _, b in images])
    coverage, risk = risk_curve(sure, right)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(np.mean(~right))
    for share, error in zip(coverage, risk, strict=True):
        count = round(share * len(sure))
        least = np.sort(sure)[::-1][count - 1]
        above, tied = sure > least, sure == least  # equally sure ones come in as their mean
        wrong = (~right[above]).sum() + (count - above.sum()) * (~right[tied]).mean()
        assert error == pytest.approx(wrong / count)
    interval = aurc_interval(sure, right)
    assert interval.low <= interval.value <= interval.high
    assert aurc(right.astype(float), right) <= aurc(sure, right) + 1e-12
    assert interval.value == pytest.approx(np.mean([*_risks(sure, right)]))


def _risks(sure: Floats, right: Truths) -> list[float]:
    coverage, risk = risk_curve(sure, right)
    assert len(coverage) == len(sure)
    return list(risk)


def _simulated(images: int, seed: int, hot: float) -> tuple[Floats, Truths]:
    """Return confidences and truths; a confidence is right as often as its logit over `hot` says."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(1.0, 1.0, images)
    return 1 / (1 + np.exp(-logits)), chance.random(images) < 1 / (1 + np.exp(-logits / hot))


@pytest.mark.slow
@pytest.mark.parametrize("hot", [1.0, 2.0, 4.0])
def test_the_interval_of_the_calibration_error_covers_the_truth(hot: float) -> None:
    """Also where there is none, at which a bootstrap's intervals hardly ever begin."""
    sure, _ = _simulated(400_000, 999, hot)
    truth = float(np.mean(np.abs(sure - 1 / (1 + np.exp(-np.log(sure / (1 - sure)) / hot)))))
    found = [calibration_error(reliability_bins(*_simulated(300, seed, hot))) for seed in range(150)]
    covered = np.mean([estimate.low - 1e-9 <= truth <= estimate.high for estimate, _ in found])
    assert covered >= 0.9
    plain = np.mean([plain for _, plain in found])
    corrected = np.mean([estimate.value for estimate, _ in found])
    assert abs(corrected - truth) < abs(plain - truth) + 0.002


@pytest.mark.slow
def test_the_interval_of_an_auroc_covers_the_truth() -> None:
    from scipy.stats import norm  # type: ignore[import-untyped]

    truth = float(norm.cdf(1.5 / np.sqrt(2)))
    covered = []
    for seed in range(300):
        chance = np.random.default_rng(seed)
        found = auroc(chance.normal(1.5, 1, 60), chance.normal(0, 1, 40))
        covered.append(found.low <= truth <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


Files = tuple[Path, Path]


@pytest.fixture
def calibrated(tmp_path: Path) -> Files:
    """A calibrated classifier, and labelled embeddings that it has not seen."""
    pytest.importorskip("scipy")
    head, kept = save(problem([2, 3, 2], 260, seed=4, dim=16), tmp_path)
    with np.load(kept) as archive:
        every = dict(archive)
    for name, rows in (("calibration", slice(0, 130)), ("test", slice(130, None))):
        np.savez(tmp_path / f"{name}.npz", **{key: value[rows] for key, value in every.items()})
    fm.calibrate(classifier=head, embeddings=tmp_path / "calibration.npz", false_rejections=0.1).save(
        tmp_path / "calibrated.safetensors"
    )
    strange = np.random.default_rng(5).standard_normal((40, 16)).astype(np.float32)
    np.savez(tmp_path / "strange.npz", embeddings=strange)
    return tmp_path / "calibrated.safetensors", tmp_path / "test.npz"


def test_a_calibrated_classifier_has_figures_that_its_predictions_have(calibrated: Files) -> None:
    head, test = calibrated
    result = fm.evaluate(classifier=head, embeddings=test, unknown=head.parent / "strange.npz")
    figures = result.confidence
    assert figures is not None
    assert figures.sets is not None
    assert figures.rejections is not None
    assert figures.unknown is not None
    classifier = fm.Classifier.load(head)
    rows = fm.EmbeddingSet(test)
    predictions = list(classifier.score(rows, abstain=True, sets=True))
    labels = list(rows.labels())
    known = [p for p in predictions if isinstance(p, fm.Prediction)]
    held = [label in (p.labels or ()) for p, label in zip(known, labels, strict=True)]
    assert figures.images == len(held) == 130
    assert figures.sets.coverage.value == pytest.approx(np.mean(held))
    assert figures.sets.size == pytest.approx(np.mean([len(p.labels or ()) for p in known]))
    assert figures.rejections.all.value == pytest.approx(np.mean([p.reason is not None for p in known]))
    strange = fm.EmbeddingSet(head.parent / "strange.npz")
    others = [p for p in classifier.score(strange, abstain=True) if isinstance(p, fm.Prediction)]
    assert figures.unknown.rejected is not None
    assert figures.unknown.rejected.value == pytest.approx(np.mean([p.reason is not None for p in others]))
    assert figures.sets.asked == 0.95
    assert figures.rejections.asked == 0.1
    assert fm.Evaluation.from_dict(result.to_dict()) == result


def test_the_command_shows_and_keeps_them(calibrated: Files, runner: CliRunner, tmp_path: Path) -> None:
    head, test = calibrated
    page, out = tmp_path / "page.html", tmp_path / "run.json"
    given = ["evaluate", "--classifier", str(head), "--image-embeddings", str(test)]
    more = ["--unknown", str(tmp_path / "strange.npz"), "--json", str(out), "--report", str(page)]
    result = runner.invoke(main, [*given, *more])
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    for words in ("calibration error", "at least 95 asked", "at most 10 asked", "40 unknown images"):
        assert words in result.stdout
    assert fm.Evaluation.load(out).confidence is not None
    text = page.read_text("utf-8")
    assert 'id="confidence"' in text
    assert "AUROC by score" in text
    plain = json.loads(out.read_text("utf-8"))
    for path in (("risk",), ("bins",), ("error", "value")):
        damaged = json.loads(json.dumps(plain))
        place = damaged["confidence"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = [] if isinstance(place[path[-1]], list) else "many"
        with pytest.raises(EvaluationError, match=r"confidence|Expected"):
            fm.Evaluation.from_dict(damaged)


def test_without_calibration_unknown_images_are_measured_alone(calibrated: Files, runner: CliRunner) -> None:
    head, test = calibrated
    plain = head.with_name("head.safetensors")
    assert fm.evaluate(classifier=plain, embeddings=test).confidence is None
    figures = fm.evaluate(classifier=plain, embeddings=test, unknown=head.parent / "strange.npz").confidence
    assert figures is not None
    assert not figures.is_calibrated
    assert (figures.sets, figures.rejections) == (None, None)
    assert figures.unknown is not None
    assert figures.unknown.rejected is None


def test_unknown_images_that_cannot_be_are_refused(calibrated: Files) -> None:
    head, test = calibrated
    short = head.with_name("short.npz")
    np.savez(short, embeddings=np.ones((3, 5), np.float32))
    with pytest.raises(ModelError, match="differ in length from those of the labelled images"):
        fm.evaluate(classifier=head, embeddings=test, unknown=short)
    with pytest.raises(EvaluationError, match="no images of none of the classes"):
        fm.evaluate(classifier=head, embeddings=test, unknown=test)
    with pytest.raises((EvaluationError, UsageError), match="needs the arm descriptors"):
        fm.evaluate(classifier=head, embeddings=test, arms=["photo"], unknown=head.with_name("strange.npz"))


@given(st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=30)
def test_a_calibration_error_lies_in_its_interval(images: int, seed: int) -> None:
    estimate, plain = calibration_error(reliability_bins(*_simulated(images, seed, 2.0)))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert plain >= 0
