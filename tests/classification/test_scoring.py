"""The identities of the arithmetic, and the definitions written out in loops."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.classification.heads import class_logits

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.scoring import (
    Array,
    Indices,
    Pooling,
    best_first,
    class_means,
    cosines,
    indices_by_class,
    mark_scores,
    mutual_nearest,
    normalize,
    probabilities,
    score_statistics,
    z_scores,
)
from fieldmarks.errors import UsageError

Problem = tuple[Array, Array, Indices, int]  # images (N, D), texts (M, D), owner (M,), classes


aggregations = st.sampled_from(words(Aggregation))


@st.composite
def problems(draw: st.DrawFn, most: int = 4) -> Problem:
    """Random embeddings, and texts that belong to classes in any order, each class with at least one."""
    classes = draw(st.integers(1, 5))
    owners = [owner for owner in range(classes) for _ in range(draw(st.integers(1, most)))]
    owners = draw(st.permutations(owners))
    seed = draw(st.integers(0, 2**31))
    images = _random((draw(st.integers(1, 4)), 8), seed)
    lengths = np.random.default_rng(seed).uniform(0.5, 9.5, (len(owners), 1)).astype(np.float32)
    return images, _random((len(owners), 8), seed + 1) * lengths, np.array(owners), classes


def _random(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _eye(size: int) -> Array:
    return np.eye(size, dtype=np.float32)


def _cosine(a: Array, b: Array) -> float:
    return float((a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.slow
@given(problems(most=1))
def test_with_one_descriptor_a_class_all_aggregations_agree(problem: Problem) -> None:
    first, *others = (class_logits(*problem, 100.0, aggregation) for aggregation in words(Aggregation))
    for other in others:
        assert_allclose(other, first, rtol=0, atol=1e-4)


@given(problems())
def test_the_maximum_is_never_under_the_mean(problem: Problem) -> None:
    highest = class_logits(*problem, 1.0, "max-similarity")
    mean = class_logits(*problem, 1.0, "mean-similarity")
    assert (highest >= mean - 1e-6).all()


@given(problems(), aggregations)
def test_permuting_classes_permutes_scores(problem: Problem, aggregation: Aggregation) -> None:
    images, texts, owner, classes = problem
    order = np.random.default_rng(classes).permutation(classes)
    permuted = class_logits(images, texts, order[owner], classes, 1.0, aggregation)
    assert_allclose(
        permuted[:, order], class_logits(images, texts, owner, classes, 1.0, aggregation), rtol=0, atol=1e-6
    )


@given(problems(), aggregations)
def test_probabilities_are_shares(problem: Problem, aggregation: Aggregation) -> None:
    shares = probabilities(class_logits(*problem, 100.0, aggregation))
    assert (shares >= 0).all()
    assert_allclose(shares.sum(axis=1), np.ones(len(problem[0])), rtol=1.3e-6, atol=1e-5)


@pytest.mark.slow
@given(problems())
def test_the_definitions_written_out(problem: Problem) -> None:
    images, texts, owner, classes = problem
    expected: dict[Aggregation, list[list[float]]] = {aggregation: [] for aggregation in words(Aggregation)}
    for image in images:
        for row in expected.values():
            row.append([])
        for number in range(classes):
            own = [text for text, item in zip(texts, owner.tolist(), strict=True) if item == number]
            similar = [_cosine(image, text) for text in own]
            unit = np.stack([text / np.linalg.norm(text) for text in own])
            expected["mean-embedding"][-1].append(_cosine(image, np.stack(own).mean(axis=0)))
            expected["mean-unit-embedding"][-1].append(_cosine(image, unit.mean(axis=0)))
            expected["mean-similarity"][-1].append(sum(similar) / len(similar))
            expected["max-similarity"][-1].append(max(similar))
    for aggregation, values in expected.items():
        logits = class_logits(*problem, 3.0, aggregation)
        assert_allclose(logits, 3.0 * np.array(values), rtol=0, atol=2e-4)


@given(problems())
def test_mean_of_embeddings_is_the_projection_of_the_mean_state(problem: Problem) -> None:
    _, states, owner, classes = problem
    projection = _random((8, 8), 1)
    ours = Pooling.named("mean-embedding").class_weights(states @ projection.T, owner, classes)
    assert ours is not None
    article = class_means(states, owner, classes) @ projection.T
    assert_allclose(ours, article / np.linalg.norm(article, axis=-1, keepdims=True), rtol=0, atol=1e-5)


@given(problems())
def test_marks_are_scaled_cosines_without_any_normalising_over_texts(problem: Problem) -> None:
    images, texts, _, _ = problem
    scores = mark_scores(images, texts, 20.0)
    assert scores.shape == (len(images), len(texts))
    assert scores[0, 0].item() == pytest.approx(20 * _cosine(images[0], texts[0]), abs=1e-4)
    assert_allclose(mark_scores(images, texts[:1], 20.0), scores[:, :1], rtol=1.3e-6, atol=1e-5)


@given(problems())
def test_score_statistics_are_those_of_the_single_scores(problem: Problem) -> None:
    images, texts, _, _ = problem
    scores = mark_scores(images, texts, 100.0).astype(np.float64)
    mean, deviation = score_statistics([images[:1], images[1:]], texts, 100.0)
    assert_allclose(mean, scores.mean(axis=0), rtol=0, atol=1e-3)
    assert_allclose(deviation, scores.std(axis=0), rtol=0, atol=1e-2)
    assert mean.dtype == deviation.dtype == np.float32


def test_z_scores_have_mean_0_and_deviation_1_over_the_pictures() -> None:
    images, texts = _random((50, 8), 2), _random((5, 8), 3)
    mean, deviation = score_statistics([images[:20], images[20:]], texts, 100.0)
    z = z_scores(mark_scores(images, texts, 100.0), mean, deviation, 100.0)
    assert_allclose(z.mean(axis=0), np.zeros(5), rtol=0, atol=1e-4)
    assert_allclose(z.std(axis=0), np.ones(5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_z_scores_against_pictures_that_do_not_vary_are_zero(count: int) -> None:
    images = np.ones((count, 8), np.float32)
    mean, deviation = score_statistics([images], _eye(8), 100.0)
    assert (
        z_scores(mark_scores(images, _eye(8), 100.0), mean, deviation, 100.0).tolist() == [[0.0] * 8] * count
    )


def test_zero_vectors_score_zero() -> None:
    assert cosines(np.zeros((1, 4), np.float32), _eye(4)).tolist() == [[0.0] * 4]
    opposed = np.array([[1, 0], [-1, 0]], np.float32)
    logits = class_logits(opposed[:1], opposed, np.array([0, 0]), 1, 5.0, "mean-embedding")
    assert logits.tolist() == [[0.0]]


@given(problems(), st.sampled_from([1e-30, 1e-9, 1e9, 1e30]), aggregations)
def test_lengths_beyond_the_squares_of_float32_change_nothing(
    problem: Problem, length: float, aggregation: Aggregation
) -> None:
    images, texts, owner, classes = problem
    far = class_logits(images, texts * np.float32(length), owner, classes, 1.0, aggregation)
    if length > 1e-12:  # under it a vector has no direction
        assert_allclose(far, class_logits(*problem, 1.0, aggregation), rtol=0, atol=1e-5)
    assert np.isfinite(far).all()
    assert far.dtype == np.float32


def test_unit_rows_are_torchs() -> None:
    from torch import from_numpy
    from torch.nn.functional import normalize as theirs

    rows = np.concatenate([_random((5, 8), 4), np.zeros((1, 8), np.float32), _random((1, 8), 5) * 1e-14])
    assert_allclose(normalize(rows), theirs(from_numpy(rows), dim=-1), rtol=0, atol=1e-7)


def test_a_class_without_rows_has_zeros() -> None:
    means = class_means(np.array([[1, 2], [3, 4], [5, 8]], np.float32), np.array([2, 0, 2]), 4)
    assert means.tolist() == [[3, 4], [0, 0], [3, 5], [0, 0]]


@pytest.mark.parametrize("high", [0.0, 1e4, -1e4, 1e38])
def test_probabilities_of_logits_of_any_size(high: float) -> None:
    assert probabilities(np.array([[high, high, -1.5e38]], np.float32)).tolist() == [[0.5, 0.5, 0.0]]


def test_a_maximum_has_no_class_weights() -> None:
    pooling = Pooling.named("max-similarity")
    assert pooling.class_weights(_eye(2), np.array([0, 1]), 2) is None
    with pytest.raises(ValueError, match="weights need a mean"):
        replace(pooling, weights=np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="is not one of mean-embedding, "):
        Pooling(unit_texts=False, unit_classes=False)
    with pytest.raises(UsageError, match=r"aggregate: expected .*, found 'mean-similarty' \(did you mean"):
        Pooling.named(cast(Aggregation, "mean-similarty"))


@pytest.mark.parametrize("aggregation", words(Aggregation))
def test_a_pooling_is_known_by_its_name(aggregation: Aggregation) -> None:
    assert Pooling.named(aggregation).name == aggregation


def _naive(
    images: Array, texts: Array, owner: Indices, classes: int, aggregation: Aggregation
) -> list[list[float]]:
    """Return the pooled cosines (N, C), in loops and double precision."""
    rows = []
    for image in images.astype(np.float64):
        row = []
        for number in range(classes):
            own = [text for text, of in zip(texts.astype(np.float64), owner, strict=True) if of == number]
            units = [text / np.linalg.norm(text) for text in own]
            if aggregation == "mean-embedding":
                row.append(_cosine(image, np.mean(own, axis=0)))
            elif aggregation == "mean-unit-embedding":
                row.append(_cosine(image, np.mean(units, axis=0)))
            else:
                similarities = [_cosine(image, unit) for unit in units]
                row.append(max(similarities) if aggregation[:3] == "max" else float(np.mean(similarities)))
        rows.append(row)
    return rows


@given(problems(), aggregations)
def test_scores_are_those_of_a_naive_reference(problem: Problem, aggregation: Aggregation) -> None:
    scores = Pooling.named(aggregation).scores(*problem)
    assert scores.dtype == np.float32
    assert_allclose(scores, _naive(*problem, aggregation), rtol=0, atol=2e-6)


@given(problems(), aggregations)
def test_class_weights_give_the_scores_where_there_are_any(
    problem: Problem, aggregation: Aggregation
) -> None:
    images, texts, owner, classes = problem
    pooling = Pooling.named(aggregation)
    weights = pooling.class_weights(texts, owner, classes)
    if weights is not None:
        assert_allclose(normalize(images) @ weights.T, pooling.scores(*problem), rtol=0, atol=1e-6)


@pytest.mark.slow
@given(problems(), aggregations)
def test_weights_of_one_over_their_number_are_the_mean(problem: Problem, aggregation: Aggregation) -> None:
    _, _, owner, classes = problem
    pooling = Pooling.named(aggregation)
    if pooling.reduce == "mean":
        own = owner[None] == np.arange(classes)[:, None]  # (C, M)
        weighted = replace(pooling, weights=(own / own.sum(axis=1, keepdims=True)).astype(np.float32))
        assert_allclose(weighted.scores(*problem), pooling.scores(*problem), rtol=0, atol=1e-5)


@given(problems())
def test_weights_may_reach_texts_of_other_classes_and_be_negative(problem: Problem) -> None:
    images, texts, _, classes = problem
    weights = _random((classes, len(texts)), 9)
    pooling = Pooling.named("mean-similarity", weights)
    assert_allclose(pooling.scores(*problem), cosines(images, texts) @ weights.T, rtol=0, atol=1e-5)


@given(problems(), aggregations)
def test_without_each_text_is_the_class_of_the_others(problem: Problem, aggregation: Aggregation) -> None:
    images, texts, owner, classes = problem
    names = _random((classes, texts.shape[1]), 5)
    pooling = Pooling.named(aggregation)
    without = pooling.without_each(texts, owner, names)(normalize(images))  # (N, M)
    for row, number in enumerate(owner.tolist()):
        others = np.flatnonzero((owner == number) & (np.arange(len(owner)) != row))
        rest = texts[others] if len(others) else names[[number]]
        expected = pooling.scores(images, rest, np.zeros(len(rest), np.int64), 1)
        assert_allclose(without[:, [row]], expected, rtol=0, atol=2e-6)


@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 4), st.integers(0, 45), st.integers(0, 2**31))
def test_the_best_are_those_of_a_stable_sort(
    rows: int, columns: int, kinds: int, top: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, kinds, (rows, columns)).astype(np.float32)
    sort = np.argsort(-scores, axis=1, kind="stable")
    assert np.array_equal(best_first(scores), sort)
    assert np.array_equal(best_first(scores, top + 1), sort[:, : top + 1])


@given(st.integers(4000, 13_000), st.sampled_from([2, 50, 2**20]), st.integers(1, 3), st.integers(0, 2**31))
def test_so_are_the_best_of_many(columns: int, kinds: int, top: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, kinds, (2, columns)).astype(np.float32)
    sort = np.argsort(-scores, axis=1, kind="stable")
    assert np.array_equal(best_first(scores, top), sort[:, :top])


@pytest.mark.parametrize("copies", [1, 3000])
def test_a_row_of_no_numbers_leaves_the_others_their_best(copies: int) -> None:
    scores = np.array([[1, 3, 2], [np.nan] * 3, [7, 8, 9]], np.float32).repeat(copies, axis=1)
    second, third = copies, 2 * copies  # where the copies of the second and of the third begin
    expected = [[second, third], [0, 1], [third, second]]
    if copies > 1:
        expected = [[second, second + 1], [0, 1], [third, third + 1]]
    assert best_first(scores, 2).tolist() == expected


@given(problems())
def test_members_are_each_classs_texts_in_order(problem: Problem) -> None:
    _, _, owner, classes = problem
    own = [rows.tolist() for rows in indices_by_class(owner, classes + 1)]
    assert own == [[row for row, item in enumerate(owner) if item == number] for number in range(classes + 1)]


def test_the_largest_similarity_of_a_class_without_texts() -> None:
    texts = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    scores = Pooling.named("max-similarity").scores(_eye(2), texts, np.array([0, 0, 2]), 3)
    assert scores.tolist() == [[1, -np.inf, -1], [1, -np.inf, 0]]


def test_pairs_that_are_each_others_nearest() -> None:
    # the second row's best column prefers the first row
    alike = np.array([[0.9, 0.2, 0.1], [0.8, 0.1, 0.3]], np.float32)
    assert mutual_nearest(alike) == [(0, 0)]
    assert mutual_nearest(_eye(3)) == [(0, 0), (1, 1), (2, 2)]


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 2), min_size=16, max_size=16))
def test_there_is_always_a_pair(rows: int, columns: int, values: list[int]) -> None:
    alike = np.array(values[: rows * columns], np.float32).reshape(rows, columns)
    pairs = mutual_nearest(alike)
    assert pairs
    assert alike[pairs[0]] == alike[pairs[0][0]].max() == alike[:, pairs[0][1]].max()
