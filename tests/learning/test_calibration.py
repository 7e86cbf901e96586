"""Calibration: the laws of temperature, thresholds and sets, over simulated calibrations."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmarks.classification.scoring import Array, probabilities
from fieldmarks.learning.calibration import (
    FEWEST,
    NEVER,
    coldest,
    fewest_for,
    quantile,
    reliability,
    temperature,
    thresholds,
)
from fieldmarks.learning.strength import judged

CLASSES = 5


def world(images: int, seed: int, lead: float = 0.06) -> tuple[Array, NDArray[np.int64]]:
    """Return scores (n, C), in which the true class leads a little, and classes (n,)."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, CLASSES, images)
    scores = 0.2 + 0.03 * chance.standard_normal((images, CLASSES))
    scores[np.arange(images), labels] += lead
    return scores.astype(np.float32), labels


@given(st.integers(5, 80), st.integers(0, 10**6))
@settings(max_examples=40)
def test_no_other_temperature_has_less_log_loss(images: int, seed: int) -> None:
    scores, labels = world(images, seed)
    best = temperature(scores, labels)
    wide = scores.astype(np.float64)
    least = judged(wide / best, labels)[0].mean()
    for other in np.geomspace(1e-4, 10, 60):
        assert least <= judged(wide / other, labels)[0].mean() + 1e-6


def test_a_temperature_that_is_known_is_found_and_calibrates() -> None:
    chance = np.random.default_rng(3)
    scores = chance.standard_normal((20_000, CLASSES)).astype(np.float32) * 0.05
    shares = probabilities(scores / np.float32(0.02))
    labels = np.array([chance.choice(CLASSES, p=row / row.sum()) for row in shares.astype(np.float64)])
    assert temperature(scores, labels) == pytest.approx(0.02, rel=0.05)
    right = (scores.argmax(axis=1) == labels).astype(np.float64)
    assert reliability(shares.max(axis=1).astype(np.float64), right) < 0.015
    cold = probabilities(scores / np.float32(0.004)).max(axis=1).astype(np.float64)
    assert reliability(cold, right) > 0.2


def binomial_interval(trials: int, share: float) -> tuple[float, float]:
    """Return the shares between which 99.9% of the means of so many trials lie."""
    mass = np.cumsum([comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)])
    return np.searchsorted(mass, 0.0005) / trials, np.searchsorted(mass, 0.9995) / trials


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_true_label_as_often_as_promised(coverage: float) -> None:
    """Over 200 calibrations of 60 images, each tried on one new image: a Bernoulli trial each."""
    held = []
    for seed in range(200):
        scores, labels = world(61, seed)
        least = quantile(scores[:60], labels[:60], 0.02, coverage)
        share = probabilities(scores[60:] / np.float32(0.02))[0, labels[60]]
        held.append(1 - share <= least + 1e-7)
    low, high = binomial_interval(200, coverage)
    assert low <= np.mean(held) <= min(1, high + 1 / 61)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_false_rejections_are_as_many_as_allowed(share: float) -> None:
    """Over 200 calibrations with at least FEWEST images a class, each tried on one new image."""
    rejected = []
    for seed in range(200):
        scores, labels = world(301, seed)
        assert np.bincount(labels[:300]).min() >= FEWEST
        least, pooled = thresholds(scores[:300], labels[:300], share)
        assert pooled == []
        rejected.append(scores[300, labels[300]] < least[labels[300]])
    low, high = binomial_interval(200, share)
    assert low - 1 / FEWEST <= np.mean(rejected) <= high


def test_a_class_of_few_images_has_the_threshold_of_all() -> None:
    scores, labels = world(200, 1)
    keep = np.concatenate([np.flatnonzero(labels == 0)[: FEWEST - 1], np.flatnonzero(labels != 0)])
    least, pooled = thresholds(scores[keep], labels[keep], 0.1)
    assert pooled == [0]
    own = scores[keep][np.arange(len(keep)), labels[keep]]
    assert (own < least[0]).mean() <= 0.1
    assert (own <= least[0]).mean() == pytest.approx(0.1, abs=0.01)


def test_too_few_images_reject_nothing_and_keep_every_label() -> None:
    scores, labels = world(10, 2)
    assert (thresholds(scores, labels, 0.05)[0] == np.float32(NEVER)).all()
    assert quantile(scores, labels, 0.02, 0.95) == 1
    assert fewest_for(0.95) == 19
    scores, labels = world(19, 2)
    assert quantile(scores, labels, 0.02, 0.95) < 1
    assert (thresholds(scores, labels, 0.05)[0] > NEVER).all()


@given(st.integers(1, 200), st.integers(2, 12), st.floats(0.01, 1), st.integers(0, 3))
@settings(max_examples=40)
def test_the_coldest_temperature_is_as_sure_as_so_many_images_justify(
    images: int, classes: int, margin: float, wrong: int
) -> None:
    """With equal margins each image has the confidence of Jeffreys' estimate, however many are right."""
    labels = np.arange(images) % classes
    scores = (margin * np.eye(classes, dtype=np.float32))[labels]
    labels[:wrong] += 1
    labels %= classes
    right = images - min(wrong, images)
    warmth = coldest(scores, labels)
    sure = probabilities((scores / np.float32(warmth)).astype(np.float32)).max(axis=1)
    floor = float(probabilities(scores / np.float32(10)).max())  # at the hottest temperature that is allowed
    assert sure == pytest.approx(max(floor, (right + 0.5) / (images + 1)), abs=2e-3)


def test_without_errors_the_least_log_loss_would_be_certain_and_the_bound_is_not() -> None:
    scores, labels = world(96, 1, lead=0.5)
    assert temperature(scores, labels) < 0.01 < coldest(scores, labels)
