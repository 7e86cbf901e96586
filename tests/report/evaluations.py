"""Evaluations made up for the tests: answers drawn from classes that lie in groups, and their figures."""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction, Score
from fieldmarks.evaluation.estimates import Confidence, ReliabilityBin
from fieldmarks.evaluation.results import (
    ArmResult,
    Confusion,
    DescriptorEffect,
    Difference,
    Estimate,
    Evaluation,
    Exemplar,
    Indices,
    Predictions,
    role_of,
)

SIZE = 24  # dimensions in which classes lie
BIRDS = (
    *("indigo bunting", "lazuli bunting", "painted bunting", "tree frog", "bullfrog", "tailed frog"),
    *("barn owl", "great grey owl", "goldfish", "tench"),
)
ARMS = {"photo": 0.42, "descriptors": 0.26, "waffle": 0.40, "swapped": 0.75}  # the noise of an arm's texts
TEXTS = {
    "photo": "a photo of a {class}",
    "descriptors": "{descriptor}",
    "waffle": "{class}, which has {random words}",
    "swapped": "{another class's descriptor}",
}
SETTINGS = {
    "command": "fieldmarks evaluate photos --store birds.jsonl --ablate --report page.html",
    "data": {"source": "photos/clothing", "split": None, "pictures": 2000, "sha256": "5f4dcc3b" * 8},
    "model": {"id": "openai/clip-vit-base-patch32", "revision": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"},
    "store": {"path": "birds.jsonl", "sha256": "c9c8dc44" * 8, "classes": 10},
    "arms": ["photo", "descriptors", "waffle", "swapped"],
    "seeds": 5,
    "versions": {"fieldmarks": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
}


def evaluation(
    names: Sequence[str] = BIRDS, pictures: int = 2000, seeds: int = 5, seed: int = 0, group: int = 3
) -> Evaluation:
    """Return an evaluation in which groups of neighbouring classes are taken for each other."""
    random = np.random.default_rng(seed)
    amount = len(names)
    centres = random.normal(size=(-(-amount // group), SIZE)).repeat(group, axis=0)[:amount]  # (C, SIZE)
    classes = centres + 0.55 * random.normal(size=(amount, SIZE))
    frequency = random.dirichlet(np.full(amount, 6.0))
    labels = np.sort(random.choice(amount, pictures, p=frequency)).astype(np.int32)
    images = classes[labels] + 0.9 * random.normal(size=(pictures, SIZE))  # (N, SIZE)
    runs = {
        name: tuple(
            _run(images, classes + noise * 2 * random.normal(size=classes.shape), labels, seed)
            for seed in (range(seeds) if name in ("waffle", "swapped") else [None])
        )
        for name, noise in ARMS.items()
    }
    arms = tuple(_arm(name, runs[name], runs["photo"], labels, amount) for name in runs)
    return Evaluation(
        settings=SETTINGS,
        classes=tuple(names),
        images=tuple(f"photos/{names[label]}/{number:05d}.jpg" for number, label in enumerate(labels)),
        labels=labels,
        arms=arms,
        summary=_summary(arms),
        notices=("12 pictures are the same as another picture, byte for byte: photos/tench/00012.jpg",),
        failures=(Failure("photos/broken.jpg", "cannot identify image file"),),
        effects=_effects(names, labels, random),
        examples=[
            _example(names, number, labels, arms, random) for number in range(0, pictures, -(-pictures // 6))
        ],
    )


def _run(
    images: NDArray[np.float64], weights: NDArray[np.float64], labels: Indices, seed: int | None
) -> Predictions:
    scores = images @ (weights / np.linalg.norm(weights, axis=1, keepdims=True)).T  # (N, C)
    true = scores[np.arange(len(labels)), labels][:, None]
    return Predictions(scores.argmax(1).astype(np.int32), (scores > true).sum(1).astype(np.int32), seed)


def _arm(
    name: str, runs: tuple[Predictions, ...], photo: tuple[Predictions, ...], labels: Indices, classes: int
) -> ArmResult:
    right = np.mean([run.predicted == labels for run in runs], axis=0)  # (N,)
    base = photo[0].predicted == labels
    counts = np.bincount(labels, minlength=classes)
    recall, before = (
        np.bincount(labels, weights, classes) / np.maximum(counts, 1) for weights in (right, base)
    )
    pairs = Counter(
        (int(label), int(other))
        for run in runs
        for label, other in zip(labels, run.predicted, strict=True)
        if label != other
    )
    lead = _estimate(right - base)
    return ArmResult(
        name=name,
        role=role_of(name, ("photo",)),
        text=TEXTS[name],
        aggregate="mean-embedding",
        texts=(f"{TEXTS[name]}, for example",),
        runs=runs,
        top1=_estimate(right),
        top5=_estimate(np.mean([run.rank < 5 for run in runs], axis=0)) if classes > 5 else None,
        mean_per_class=_estimate(recall[counts > 0]),
        difference=None if name == "photo" else Difference("photo", lead.value, lead.low, lead.high, 0.0312),
        recall=tuple(float(value) if has else None for value, has in zip(recall, counts, strict=True)),
        gain=None
        if name == "photo"
        else tuple(float(value) if has else None for value, has in zip(recall - before, counts, strict=True)),
        confused=tuple(Confusion(*pair, number / len(runs)) for pair, number in pairs.most_common(20)),
    )


def _estimate(values: NDArray[np.float64]) -> Estimate:
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half)


def _summary(arms: Sequence[ArmResult]) -> tuple[str, ...]:
    _, descriptors, waffle, _ = arms
    assert descriptors.difference
    assert waffle.difference
    gain, chance = 100 * descriptors.difference.value, 100 * waffle.difference.value
    return (
        f'Descriptors answer {gain:.1f} points more pictures rightly than "a photo of a", '
        f"interval {100 * descriptors.difference.low:.1f} to {100 * descriptors.difference.high:.1f}.",
        f"Random words in their place gain {chance:.1f} points: the descriptors are more than chance.",
    )


def _effects(
    names: Sequence[str], labels: Indices, random: np.random.Generator
) -> tuple[DescriptorEffect, ...]:
    counts = np.bincount(labels, minlength=len(names))
    marks = ("a bright blue body", "a short, thick bill", "large dark eyes", "a long tail", "webbed feet")
    found = []
    for name, pictures in zip(names, counts.tolist(), strict=True):
        for mark in marks:
            own, others = random.normal(0.1, 0.3, 2).tolist()
            won = float(random.integers(-6, 9)) / len(labels)
            found.append(DescriptorEffect(name, mark, won, own, others, pictures))
    return tuple(found)


def _example(
    names: Sequence[str], number: int, labels: Indices, arms: Sequence[ArmResult], random: np.random.Generator
) -> Exemplar:
    by = {arm.name: names[arm.runs[0].predicted[number]] for arm in arms}
    best, other = by["descriptors"], names[(names.index(by["descriptors"]) + 1) % len(names)]
    marks = ("a long tail", "webbed feet", "big eyes")
    sides = [tuple(Mark(name, mark, float(random.normal(24, 2))) for mark in marks) for name in (best, other)]
    scores = (Score(best, 0.71, 24.2), Score(other, 0.22, 22.0))
    explained = Explanation(sides[0], sides[1], (sides[0][0], sides[1][0]))
    image = f"photos/{names[labels[number]]}/{number:05d}.jpg"
    return Exemplar(
        names[labels[number]], by, Prediction(image, best, scores, None, explained, _thumbnail(number))
    )


def _thumbnail(number: int) -> bytes:
    image = Image.new("RGB", (240, 180), "seagreen")
    ImageDraw.Draw(image).ellipse((60, 40, 120 + number % 100, 150), fill="goldenrod")
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def some_confidence() -> Confidence:
    """Return figures of a classifier's confidence, without sets, rejections and unknown images."""
    some = Estimate(0.1, 0.05, 0.2)
    return Confidence(
        images=60,
        is_calibrated=True,
        error=some,
        uncorrected=0.12,
        bins=(ReliabilityBin(30, 0.6, 0.7), ReliabilityBin(30, 0.9, 0.8)),
        aurc=some,
        best_aurc=0.02,
        coverage=(0.25, 0.5, 0.75, 1.0),
        risk=(0.0, 0.1, 0.1, 0.25),
    )
