"""The strength's choice: the one-standard-error rule, when to end early, and that rough fits suffice."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.learning.conftest import wrong_descriptors

from fieldmarks.classification.scoring import cosines
from fieldmarks.learning.model import Form, OwnWeights, SharedWeights, fit
from fieldmarks.learning.strength import (
    STRENGTHS,
    ZERO_SHOT,
    decide,
    has_turned,
    judged,
    sorted_by_fold,
    validated,
)

Floats = NDArray[np.float64]
SCALE = 20.0


def figures(means: list[float], seed: int = 0, spread: float = 0.1, images: int = 200) -> Floats:
    """Return log-losses (strengths, images) with exactly these means, whose differences have this spread."""
    noise = np.random.default_rng(seed).standard_normal((len(means), images))
    noise = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, ddof=1, keepdims=True)
    losses: Floats = np.array(means)[:, None] + spread * noise
    return losses


def wrong(shares: list[float], images: int = 200) -> NDArray[np.bool_]:
    """Return errors (strengths, images) of these shares, each among the same images."""
    return np.arange(images) < np.array(shares)[:, None] * images


def test_the_strongest_within_one_standard_error_of_the_best_is_taken() -> None:
    # A difference's standard error is about 0.1 · √2 / √200 = 0.01.
    losses = figures([2.0, 1.02, 1.004, 1.0, 1.5])
    choice = decide(losses, wrong([0.9, 0.5, 0.5, 0.5, 0.5]), 5)
    assert (choice.criterion, choice.strength, choice.best) == ("log-loss", STRENGTHS[2], STRENGTHS[3])
    assert choice.gain == pytest.approx(2.0 - 1.004)
    assert choice.error == pytest.approx(0.01, rel=0.2)
    assert choice.zero_shot == pytest.approx(0.1)
    assert choice.expected == pytest.approx(0.5)


def test_zero_shot_is_kept_where_nothing_is_clearly_better() -> None:
    errors = wrong([0.1] * 5)
    assert decide(figures([2.0, 1.0, 1.0, 1.0, 1.0]), errors, 5).strength == ZERO_SHOT  # all err alike
    assert decide(figures([1.005, 1.0, 1.2]), wrong([0.9] * 3), 5).strength == ZERO_SHOT
    choice = decide(figures([1.0, 1.1, 1.2]), wrong([0.9] * 3), 5)
    assert (choice.strength, choice.best, choice.gain) == (ZERO_SHOT, ZERO_SHOT, 0.0)


@given(st.lists(st.floats(0.5, 1.5), min_size=2, max_size=11), st.integers(0, 99), st.floats(0.01, 1))
def test_each_stronger_one_than_the_choice_is_worse(means: list[float], seed: int, spread: float) -> None:
    losses = figures(means, seed, spread)
    choice = decide(losses, wrong([0.9] * len(means)), 5)
    taken, best = (STRENGTHS.index(value) for value in (choice.strength, choice.best or ZERO_SHOT))
    assert taken <= best == int(losses.mean(axis=1).argmin())
    for row in range(best + 1):
        gaps = losses[row] - losses[best]
        is_worse = gaps.mean() > gaps.std(ddof=1) / np.sqrt(len(gaps))
        assert is_worse if row < taken else True
        if row == taken:
            assert not is_worse


def test_a_path_ends_where_all_folds_have_clearly_turned() -> None:
    starts = [0, 100, 200]
    turned = figures([2.0, 1.0, 1.3, 1.6])
    errors = wrong([0.9] * 4)
    assert has_turned(turned, errors, starts)
    assert not has_turned(turned[:3], errors[:3], starts)  # too early to say
    assert not has_turned(figures([2.0, 1.5, 1.2, 1.1]), errors, starts)
    assert not has_turned(figures([2.0, 1.0, 1.003, 1.006]), errors, starts)  # not clearly
    one_fold = turned.copy()
    one_fold[-1, :100] -= 1
    assert not has_turned(one_fold, errors, starts)
    # Where errors are compared, these decide.
    assert not has_turned(turned, wrong([0.2, 0.1, 0.1, 0.1]), starts)
    assert has_turned(turned, wrong([0.2, 0.1, 0.1, 0.2]), starts)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_rough_fits_expect_what_exact_ones_do(shared: bool) -> None:
    posed = wrong_descriptors(3, 5)
    owner, classes = np.array(posed.texts.owner), len(posed.texts.classes)
    order, fold = sorted_by_fold(posed.labels.astype(np.int64), 5, 0)
    labels, images = posed.labels.astype(np.int64)[order], posed.images[order]
    texts = posed.rows / np.linalg.norm(posed.rows, axis=1, keepdims=True)
    form: Form = (
        SharedWeights(images, texts, owner, classes)
        if shared
        else OwnWeights(cosines(images, texts), owner, classes)
    )
    losses, _ = validated(form, labels, fold, SCALE)
    assert len(losses) >= 4
    exact = np.empty_like(losses)
    for start, stop in pairwise(np.searchsorted(fold, range(6)).tolist()):
        parts = [slice(0, start), slice(stop, len(fold))]
        given = [part for part in parts if part.stop > part.start]
        for row, strength in enumerate(STRENGTHS[: len(losses)]):
            found = fit(form, labels, given, scale=SCALE, strength=strength)
            logits = np.asarray(SCALE * form.scores(found, slice(start, stop)), np.float64)
            exact[row, start:stop] = judged(logits, labels[start:stop])[0]
    np.testing.assert_allclose(losses.mean(axis=1), exact.mean(axis=1), atol=2e-3)
