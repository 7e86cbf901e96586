"""The CLIP losses: what they reward, and which pairs they leave out."""

import math

import torch
from torch.nn import functional

from training.losses import (
    SIZES,
    attribute_loss,
    random_subsets,
    subset_loss,
    true_texts,
    wording_loss,
)

ONE = torch.ones(())
VALUES = torch.stack([torch.zeros(len(SIZES), dtype=torch.int64), torch.ones(len(SIZES), dtype=torch.int64)])


def test_true_texts_has_one_text_for_each_attribute() -> None:
    true = true_texts(VALUES)
    assert true.shape == (2, sum(SIZES))
    assert [part.argmax(dim=1).tolist() for part in true.split(list(SIZES), dim=1)] == [[0, 1]] * len(SIZES)  # type: ignore[no-untyped-call]
    assert true.sum(dim=1).tolist() == [len(SIZES)] * 2


def test_attribute_loss_without_knowledge_is_the_log_of_the_sizes() -> None:
    loss = attribute_loss(torch.zeros(2, sum(SIZES)), VALUES)
    assert math.isclose(loss.item(), sum(map(math.log, SIZES)), rel_tol=1e-6)


def test_attribute_loss_of_the_truth_is_nothing() -> None:
    assert attribute_loss(100 * true_texts(VALUES), VALUES).item() < 1e-6


def test_subsets_are_true_and_large_enough() -> None:
    true = true_texts(VALUES.repeat(200, 1))
    chosen = random_subsets(true, 3, torch.Generator().manual_seed(0))
    assert bool(((chosen == 0) | (true == 1)).all())
    assert sorted(set(chosen.sum(dim=1).int().tolist())) == [3, 4, 5, 6, 7, 8]


def test_subset_loss_rewards_the_right_images() -> None:
    true = true_texts(VALUES)
    texts = torch.eye(sum(SIZES))
    images = functional.normalize(true, dim=1)
    right = subset_loss(images, texts, true, true, 30 * ONE)
    swapped = subset_loss(images.flip(0), texts, true, true, 30 * ONE)
    assert right.item() < 1e-6 < swapped.item()


def test_an_image_that_fits_as_well_is_no_negative() -> None:
    true = true_texts(VALUES[:1].repeat(3, 1))
    images = functional.normalize(torch.rand(3, 4), dim=1)
    assert subset_loss(images, torch.rand(sum(SIZES), 4), true, true, ONE).item() == 0.0


def test_wording_loss_keeps_values_apart() -> None:
    texts = torch.eye(sum(SIZES))
    assert wording_loss(texts, texts, 30 * ONE).item() < 1e-6
    alike = torch.ones(sum(SIZES), 4)
    assert math.isclose(wording_loss(alike, alike, 30 * ONE).item(), math.log(sum(SIZES)), rel_tol=1e-6)
