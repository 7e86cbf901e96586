"""Learning curves: what is measured on what, what is refused, and the reference on true CLIP vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.benchmarks.learning import accuracy, cifar, drawn, head_of, shots_of, weakened
from tests.kit import logged
from tests.learning.conftest import wrong_descriptors

import fieldmarks as fm
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.evaluation.predictions import Images
from fieldmarks.learning.curves import LearningCurves, divided
from fieldmarks.learning.image_means import answers, blend_of
from fieldmarks.learning.learn import equal_weights

Files = tuple[Path, Path]
Indices = np.ndarray[Any, Any]


def curves_of(files: Files, **options: Any) -> LearningCurves:
    """Measure the learning curves of a saved classifier on embeddings in a file."""
    return fm.learning_curves(classifier=files[0], embeddings=files[1], **options)


def means(curves: LearningCurves) -> dict[str, list[float]]:
    """Return the mean accuracies of each curve."""
    return {curve.name: curve.mean.tolist() for curve in curves.curves}


@pytest.mark.slow
def test_learning_recovers_from_wrong_descriptors(damaged: Files) -> None:
    curves = curves_of(damaged, shots=[8, 1, 8], draws=3)
    assert (curves.shots, curves.draws, curves.tested) == ((1, 8), 3, 4 * 22)
    found = means(curves)
    assert set(found) == {"zero-shot", "learned", "shared", "names", "image means"}
    assert "random-words" in curves.notices[0]
    zero = found["zero-shot"]
    assert zero[0] == zero[1]  # fewer shots are measured on the same images
    assert {row[0] for row in found.values()} <= {zero[0], found["names"][0]}  # one shot keeps zero-shot
    assert zero[1] < 0.7 < 0.9 < found["learned"][1]
    assert found["image means"][1] > 0.9


@pytest.mark.slow
def test_no_image_is_both_learned_from_and_measured_on(damaged: Files) -> None:
    learned = fm.learn(classifier=damaged[0], embeddings=damaged[1], shots=4)
    learned.save(damaged[0].with_name("learned.safetensors"))
    with logged() as messages:
        curves = curves_of((damaged[0].with_name("learned.safetensors"), damaged[1]), shots=[2], draws=2)
    assert "16 images left out: the classifier was made from them" in messages
    assert curves.tested == 4 * (30 - 4 - 2)


def test_draws_divide_all_images() -> None:
    posed = wrong_descriptors(3, 5)
    names = tuple(map(str, range(len(posed.labels))))
    images = Images(names, posed.images, posed.labels, (), digests=tuple(f"{at:032x}" for at in range(120)))
    chosen = list(divided(images, np.arange(120), posed.texts.classes, 5, 4))
    for order, rest in chosen:
        learned = np.concatenate(order)
        assert sorted([*learned.tolist(), *rest.tolist()]) == list(range(120))
        assert [set(posed.labels[part]) for part in order] == [{0}, {1}, {2}, {3}]
    assert len({tuple(rest.tolist()) for _, rest in chosen}) == 4


def test_too_few_images_are_refused_with_what_is_possible(damaged: Files) -> None:
    with pytest.raises(EvaluationError, match=r"4 classes with fewer than 31 distinct.*--shots 29"):
        curves_of(damaged, shots=[30])
    refused: list[dict[str, Any]] = [{"shots": []}, {"shots": [0, 2]}, {"draws": 1}]
    for options in refused:
        with pytest.raises(UsageError):
            curves_of(damaged, **options)


@pytest.mark.slow
def test_they_are_saved_over_none_but_their_like(damaged: Files, tmp_path: Path) -> None:
    curves = curves_of(damaged, shots=[2], draws=2)
    curves.save(tmp_path / "curves.json")
    curves.save(tmp_path / "curves.json")
    plain = json.loads((tmp_path / "curves.json").read_text("utf-8"))
    assert plain == json.loads(curves.encoded())
    learned = plain["curves"][1]
    assert learned["mean"] == pytest.approx(np.mean(learned["accuracy"], axis=0).tolist())
    loaded = LearningCurves.load(tmp_path / "curves.json")
    assert loaded.to_dict() == plain
    plain["curves"][-1]["role"] = "ceiling"  # as earlier files have it
    assert LearningCurves.from_dict(plain).curves[-1].role == "reference"
    damaged_by: list[dict[str, Any]] = [
        {"shots": [1, 2]},
        {"curves": []},
        {"kind": "run"},
        {"tested": "many"},
    ]
    for damage in damaged_by:
        with pytest.raises(EvaluationError, match="these are not learning curves"):
            LearningCurves.from_dict(plain | damage)
    plain["curves"][0]["accuracy"][0][0] = 7
    with pytest.raises(EvaluationError, match="'zero-shot' has an unknown role, or no shares"):
        LearningCurves.from_dict(plain)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"mine\.json"):
        curves.save(tmp_path / "mine.json")
    with pytest.raises(EvaluationError):
        fm.Evaluation.load(tmp_path / "curves.json")


def lp_plus_plus(images: Array, labels: Indices, texts: Array, given: Array, shots: int) -> Indices:
    """Return LP++'s answers (Huang et al., 2024): logits x·(w_c + α_c t_c), gradient steps from class means.

    The step is the inverse of the Lipschitz constant of each block's gradient, so nothing is tuned.
    """
    classes = len(texts)
    hot = np.eye(classes)[labels]
    weights = hot.T @ images / shots  # (C, D)
    similar = images @ texts.T
    alpha = np.full(classes, 250 / shots * similar[np.arange(len(labels)), labels].mean())
    step_w = 2 * len(labels) / np.linalg.eigvalsh(images @ images.T)[-1]
    step_a = 2 * len(labels) / (similar**2).sum(axis=0).max()
    for _ in range(300):
        logits = images @ weights.T + alpha * similar
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        off = (shares / shares.sum(axis=1, keepdims=True) - hot) / len(labels)
        weights -= step_w * off.T @ images
        alpha -= step_a * (off * similar).sum(axis=0)
    best: Indices = (given @ (weights + alpha[:, None] * texts).T).argmax(axis=1)
    return best


def proker(images: Array, labels: Indices, texts: Array, given: Array, beta: float, ridge: float) -> Indices:
    """Return ProKeR's answers (Bendou et al., 2025): x·t + K(x,S)(K(S,S)/λ + I)⁻¹(Y − S·t)."""
    inside, across = (np.exp(-beta * (1 - part @ images.T)) for part in (images, given))
    missing = np.eye(len(texts))[labels] - images @ texts.T
    change = across @ np.linalg.solve(inside / ridge + np.eye(len(labels)), missing)
    best: Indices = (given @ texts.T + change).argmax(axis=1)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("weak", [False, True])
def test_image_means_are_near_published_methods_on_true_vectors(check_data: Path, weak: bool) -> None:
    images, labels, texts, names = cifar(check_data)
    figures = []
    for seed in range(5):
        rows = weakened(images, labels, texts, seed) if weak else texts
        head = head_of(rows, names)
        chosen, rest = drawn(labels, 16, seed)
        given, true = images[rest], labels[rest]
        few = shots_of(images, labels, chosen)
        kernels = [
            proker(few.vectors, few.labels, rows, given, beta, ridge)
            for beta in (1.0, 5.0)
            for ridge in (0.1, 1.0)
        ]
        best = [
            lp_plus_plus(few.vectors, few.labels, rows, given, 16),
            *kernels,
            answers(head, few, blend_of(head, few, seed), given),
        ]
        right = [float((answer == true).mean()) for answer in best]
        figures.append([accuracy(equal_weights(head), given, true), right[0], max(right[1:-1]), right[-1]])
    zero, published, kernel, means = np.mean(figures, axis=0).tolist()
    print(f"zero-shot {zero:.3f}, LP++ {published:.3f}, ProKeR {kernel:.3f}, image means {means:.3f}")
    assert min(published, kernel, means) > zero + (0.3 if weak else 0)
    assert means > max(published, kernel) - 0.03
