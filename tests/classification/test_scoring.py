"""The identities of the arithmetic, and the definitions written out in loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fieldmarks.classification.scoring import (
    AGGREGATIONS,
    Aggregation,
    class_logits,
    class_matrix,
    class_means,
    cosines,
    mark_scores,
    mutual_nearest,
    probabilities,
    usual_scores,
    z_scores,
)

Problem = tuple[Tensor, Tensor, Tensor, int]  # images (N, D), texts (M, D), owner (M,), classes


@st.composite
def problems(draw: st.DrawFn, most: int = 4) -> Problem:
    """Random embeddings, and texts that belong to classes in any order, each class with at least one."""
    classes = draw(st.integers(1, 5))
    owners = [owner for owner in range(classes) for _ in range(draw(st.integers(1, most)))]
    owners = draw(st.permutations(owners))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    images = torch.randn(draw(st.integers(1, 4)), 8, generator=generator)
    lengths = torch.rand(len(owners), 1, generator=generator) * 9 + 0.5
    return images, torch.randn(len(owners), 8, generator=generator) * lengths, torch.tensor(owners), classes


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


@given(problems(most=1))
def test_with_one_descriptor_a_class_all_aggregations_agree(problem: Problem) -> None:
    first, *others = (class_logits(*problem, 100.0, aggregation) for aggregation in AGGREGATIONS)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-4)


@given(problems())
def test_the_maximum_is_never_under_the_mean(problem: Problem) -> None:
    highest = class_logits(*problem, 1.0, "max-similarity")
    mean = class_logits(*problem, 1.0, "mean-similarity")
    assert (highest >= mean - 1e-6).all()


@given(problems(), st.sampled_from(AGGREGATIONS))
def test_permuting_classes_permutes_scores(problem: Problem, aggregation: Aggregation) -> None:
    images, texts, owner, classes = problem
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(classes))
    permuted = class_logits(images, texts, order[owner], classes, 1.0, aggregation)
    torch.testing.assert_close(
        permuted[:, order], class_logits(images, texts, owner, classes, 1.0, aggregation), rtol=0, atol=1e-6
    )


@given(problems(), st.sampled_from(AGGREGATIONS))
def test_probabilities_are_shares(problem: Problem, aggregation: Aggregation) -> None:
    shares = probabilities(class_logits(*problem, 100.0, aggregation))
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(len(problem[0])))


@given(problems())
def test_the_definitions_written_out(problem: Problem) -> None:
    images, texts, owner, classes = problem
    expected: dict[Aggregation, list[list[float]]] = {aggregation: [] for aggregation in AGGREGATIONS}
    for image in images:
        for row in expected.values():
            row.append([])
        for number in range(classes):
            own = [text for text, one in zip(texts, owner.tolist(), strict=True) if one == number]
            similar = [_cosine(image, text) for text in own]
            unit = torch.stack([text / text.norm() for text in own])
            expected["mean-embedding"][-1].append(_cosine(image, torch.stack(own).mean(dim=0)))
            expected["mean-unit-embedding"][-1].append(_cosine(image, unit.mean(dim=0)))
            expected["mean-similarity"][-1].append(sum(similar) / len(similar))
            expected["max-similarity"][-1].append(max(similar))
    for aggregation, values in expected.items():
        logits = class_logits(*problem, 3.0, aggregation)
        torch.testing.assert_close(logits, 3.0 * torch.tensor(values), rtol=0, atol=2e-4)


@given(problems())
def test_mean_of_embeddings_is_the_projection_of_the_mean_state(problem: Problem) -> None:
    _, states, owner, classes = problem
    projection = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    ours = class_matrix(states @ projection.T, owner, classes, "mean-embedding")
    article = class_means(states, owner, classes) @ projection.T
    torch.testing.assert_close(ours, article / article.norm(dim=-1, keepdim=True), rtol=0, atol=1e-5)


@given(problems())
def test_marks_are_scaled_cosines_without_any_normalising_over_texts(problem: Problem) -> None:
    images, texts, _, _ = problem
    scores = mark_scores(images, texts, 20.0)
    assert scores.shape == (len(images), len(texts))
    assert scores[0, 0].item() == pytest.approx(20 * _cosine(images[0], texts[0]), abs=1e-4)
    torch.testing.assert_close(mark_scores(images, texts[:1], 20.0), scores[:, :1])


def test_z_scores_have_mean_0_and_deviation_1_over_the_pictures() -> None:
    generator = torch.Generator().manual_seed(2)
    images, texts = torch.randn(50, 8, generator=generator), torch.randn(5, 8, generator=generator)
    mean, deviation = usual_scores([images[:20], images[20:]], texts, 100.0)
    z = z_scores(mark_scores(images, texts, 100.0), mean, deviation, 100.0)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_z_scores_against_pictures_that_do_not_vary_are_zero(count: int) -> None:
    images = torch.ones(count, 8)
    mean, deviation = usual_scores([images], torch.eye(8), 100.0)
    assert (
        z_scores(mark_scores(images, torch.eye(8), 100.0), mean, deviation, 100.0).tolist()
        == [[0.0] * 8] * count
    )


def test_zero_vectors_score_zero() -> None:
    assert cosines(torch.zeros(1, 4), torch.eye(4)).tolist() == [[0.0] * 4]
    opposed = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    logits = class_logits(torch.tensor([[1.0, 0.0]]), opposed, torch.tensor([0, 0]), 1, 5.0, "mean-embedding")
    assert logits.tolist() == [[0.0]]


def test_max_similarity_has_no_matrix() -> None:
    with pytest.raises(ValueError, match="no class matrix"):
        class_matrix(torch.eye(2), torch.tensor([0, 1]), 2, "max-similarity")


def test_pairs_that_are_each_others_nearest() -> None:
    alike = torch.tensor(
        [[0.9, 0.2, 0.1], [0.8, 0.1, 0.3]]
    )  # the second row's best column prefers the first row
    assert mutual_nearest(alike) == [(0, 0)]
    assert mutual_nearest(torch.eye(3)) == [(0, 0), (1, 1), (2, 2)]


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 2), min_size=16, max_size=16))
def test_there_is_always_a_pair(rows: int, columns: int, values: list[int]) -> None:
    alike = torch.tensor(values[: rows * columns], dtype=torch.float32).reshape(rows, columns)
    pairs = mutual_nearest(alike)
    assert pairs
    assert alike[pairs[0]] == alike[pairs[0][0]].max() == alike[:, pairs[0][1]].max()
