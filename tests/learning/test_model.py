"""The model's mathematics: gradient, convexity, the optimum by another solver, and its two ends."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize  # type: ignore[import-untyped]
from tests.evaluation.worlds import Problem, problem

from fieldmarks.classification.scoring import Pooling, cosines, normalize
from fieldmarks.learning.model import (
    Form,
    OwnWeights,
    SharedWeights,
    Weights,
    _Rescaled,
    fit,
    objective,
)

Floats = NDArray[np.float64]
SCALE = 20.0
Make = Callable[[Problem], Form]


def own(posed: Problem) -> Form:
    """The form of own weights."""
    owner = np.array(posed.texts.owner)
    return OwnWeights(cosines(posed.images, posed.rows), owner, len(posed.texts.classes))


def shared(posed: Problem) -> Form:
    """The form of shared weights."""
    owner = np.array(posed.texts.owner)
    return SharedWeights(posed.images, normalize(posed.rows), owner, len(posed.texts.classes))


@dataclass(frozen=True)
class Posed:
    """A problem in one of the forms, and random parameters."""

    problem: Problem
    form: Form

    @property
    def labels(self) -> NDArray[np.int64]:
        """The images' classes."""
        return self.problem.labels.astype(np.int64)

    @property
    def whole(self) -> list[slice]:
        """All images, in two parts."""
        return [slice(0, 1), slice(1, len(self.labels))]

    def at(self, seed: int) -> Floats:
        """Return random parameters near the anchor, in bounds."""
        moved = 0.3 * np.random.default_rng(seed).standard_normal(len(self.form.anchor))
        parameters = self.form.anchor + moved
        if self.form.bounds():
            parameters[: -self.form.classes] = np.maximum(parameters[: -self.form.classes], 0)
        return parameters

    def value(self, parameters: Floats, strength: float) -> float:
        """Return the objective as the docstring of the module has it, from weights of all texts."""
        weights = self.form.weights(parameters)
        return direct(self.problem, weights, strength)


def direct(posed: Problem, weights: Weights, strength: float) -> float:
    """Return the objective from the module's formula, in the plainest way."""
    similarities = (normalize(posed.images) @ normalize(posed.rows).T).astype(np.float64)
    owner = np.array(posed.texts.owner)
    logits = SCALE * (similarities @ weights.texts.astype(np.float64).T + weights.bias)
    loss = 0.0
    for row, label in zip(logits, posed.labels, strict=True):
        loss += float(np.log(np.exp(row).sum()) - row[label])
    anchor = np.zeros(weights.texts.shape)
    for text, name in enumerate(owner):
        anchor[name, text] = 1 / (owner == name).sum()
    moved = float(((weights.texts - anchor) ** 2).sum() + (weights.bias.astype(np.float64) ** 2).sum())
    return loss + strength * SCALE**2 * moved


posed = st.builds(
    lambda counts, images, seed, make: Posed(it := problem(counts, images, seed), make(it)),
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.integers(2, 12),
    st.integers(0, 2**31),
    st.sampled_from([own, shared]),
)
strengths = st.sampled_from([1.0, 0.1, 0.01, 1e-3])


@given(posed, strengths, st.integers(0, 99))
def test_the_objective_is_the_formula(it: Posed, strength: float, seed: int) -> None:
    parameters = it.at(seed)
    found, _ = objective(it.form, it.labels, it.whole, SCALE, strength, parameters)
    assert found == pytest.approx(it.value(parameters, strength), rel=1e-4, abs=1e-4)


@given(posed, strengths, st.integers(0, 99))
@settings(max_examples=30)
def test_single_precision_changes_little(it: Posed, strength: float, seed: int) -> None:
    parameters = it.at(seed)
    loss, gradient = objective(it.form, it.labels, it.whole, SCALE, strength, parameters)
    rough, by_rough = objective(it.form, it.labels, it.whole, SCALE, strength, parameters, np.float32)
    assert rough == pytest.approx(loss, rel=1e-5, abs=1e-4)
    np.testing.assert_allclose(by_rough, gradient, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("make", [own, shared])
def test_many_images_on_all_cores_are_those_of_parts_on_one(make: Make) -> None:
    it = Posed(given := problem([1, 2] * 300, 2_000, 0), make(given))
    parameters = it.at(1)
    whole, gradient = objective(it.form, it.labels, [slice(0, 2_000)], SCALE, 1e-3, parameters)
    parts = [
        objective(it.form, it.labels, [slice(at, at + 500)], SCALE, 1e-3, parameters)
        for at in range(0, 2_000, 500)
    ]
    moved = parameters - it.form.anchor
    penalty = 1e-3 * SCALE**2 * float(moved @ moved)
    assert whole == pytest.approx(sum(loss for loss, _ in parts) - 3 * penalty)
    expected = np.sum([part for _, part in parts], axis=0) - 3 * 2 * 1e-3 * SCALE**2 * moved
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@given(posed, strengths, st.integers(0, 99))
@settings(max_examples=30)
def test_the_gradient_is_that_of_small_differences(it: Posed, strength: float, seed: int) -> None:
    def value(parameters: Floats) -> float:
        return objective(it.form, it.labels, it.whole, SCALE, strength, parameters)[0]

    parameters = it.at(seed)
    _, gradient = objective(it.form, it.labels, it.whole, SCALE, strength, parameters)
    expected = approx_fprime(parameters, value, 1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=0.02)


@given(posed, strengths, st.integers(0, 99), st.integers(100, 199), st.floats(0, 1))
def test_the_objective_is_convex(it: Posed, strength: float, one: int, other: int, share: float) -> None:
    def value(parameters: Floats) -> float:
        return objective(it.form, it.labels, it.whole, SCALE, strength, parameters)[0]

    left, right = it.at(one), it.at(other)
    between = share * left + (1 - share) * right
    assert value(between) <= share * value(left) + (1 - share) * value(right) + 1e-9


@given(posed, strengths, st.integers(0, 99))
def test_variables_and_parameters_are_each_others_inverse(it: Posed, strength: float, seed: int) -> None:
    parameters = it.at(seed)
    rescaled = _Rescaled.of(it.form, it.labels, it.whole, SCALE, strength, it.at(seed + 1))
    np.testing.assert_allclose(rescaled.parameters(rescaled.variables(parameters)), parameters, atol=1e-9)


@pytest.mark.slow
@given(posed, strengths)
@settings(max_examples=15)
def test_the_optimum_is_that_of_another_convex_solver(it: Posed, strength: float) -> None:
    """The other one is scipy's interior-point method, on the plain parameters and with the exact Hessian."""
    found = fit(it.form, it.labels, it.whole, scale=SCALE, strength=strength)
    expected = interior_point(it, strength)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    weights = it.form.weights(found)
    if it.form.bounds():
        assert weights.texts.min() >= 0


def interior_point(it: Posed, strength: float) -> Floats:
    """Return the optimum by Newton's method in a trust region, behind barriers at the bounds."""
    form, labels = it.form, it.labels
    size = len(form.anchor)
    columns = np.stack([form.scores(unit, slice(0, len(labels))) for unit in np.eye(size)])  # (P, n, C)

    def hessian(parameters: Floats) -> Floats:
        logits = SCALE * np.einsum("p,pnc->nc", parameters, columns)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        centred = columns - (columns * shares).sum(axis=2, keepdims=True)
        curved = SCALE**2 * np.einsum("pnc,qnc,nc->pq", centred, centred, shares)
        both: Floats = curved + 2 * strength * SCALE**2 * np.eye(size)
        return both

    result = minimize(
        lambda parameters: objective(form, labels, it.whole, SCALE, strength, parameters),
        form.anchor,
        jac=True,
        hess=hessian,
        method="trust-constr",
        bounds=form.bounds(),
        options={"gtol": 1e-9, "xtol": 1e-12, "barrier_tol": 1e-12, "maxiter": 2000},
    )
    found: Floats = result.x
    return found


@given(posed)
def test_at_infinite_strength_it_is_mean_similarity(it: Posed) -> None:
    found = fit(it.form, it.labels, it.whole, scale=SCALE, strength=float("inf"))
    weights = it.form.weights(found)
    given = it.problem
    owner, classes = np.array(given.texts.owner), len(given.texts.classes)
    expected = Pooling.named("mean-similarity").scores(given.images, given.rows, owner, classes)
    similarities = cosines(given.images, given.rows)
    np.testing.assert_allclose(similarities @ weights.texts.T + weights.bias, expected, atol=1e-6)


@given(posed)
def test_a_great_strength_leaves_the_weights_nearly_equal(it: Posed) -> None:
    found = fit(it.form, it.labels, it.whole, scale=SCALE, strength=1e6)
    np.testing.assert_allclose(found, it.form.anchor, atol=1e-3)


@given(posed, strengths)
@settings(max_examples=20)
def test_a_start_elsewhere_ends_at_the_same_optimum(it: Posed, strength: float) -> None:
    first = fit(it.form, it.labels, it.whole, scale=SCALE, strength=strength)
    second = fit(it.form, it.labels, it.whole, scale=SCALE, strength=strength, start=it.at(5))
    np.testing.assert_allclose(first, second, atol=1e-4)
