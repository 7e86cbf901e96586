"""Sentences say what the figures allow: gains, losses, chance as good, few pictures, no baseline."""

from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.worlds import arm_of

from fieldmarks.evaluation import metrics
from fieldmarks.evaluation.metrics import figures
from fieldmarks.evaluation.results import ArmResult, Difference, Predictions
from fieldmarks.evaluation.summary import sentences


def _arms(shares: dict[str, list[float]], images: int = 1000) -> list[ArmResult]:
    """Return arms with runs of these shares; the more a run has right, the more of the same images."""
    labels = np.zeros(images, np.int32)
    baseline = None
    results = []
    for name, of_runs in shares.items():
        ranks = [(np.arange(images) >= round(share * images)).astype(np.int32) for share in of_runs]
        runs = tuple(Predictions(rank, rank, seed) for seed, rank in enumerate(ranks))
        results.append(figures(arm_of(name), runs, labels, 2, baseline))
        baseline = results[-1] if name == "photo" else baseline
    return results


def _said(shares: dict[str, list[float]], images: int = 1000) -> tuple[str, ...]:
    return sentences(_arms(shares, images))


def test_descriptors_help_more_than_chance() -> None:
    first, second = _said({"photo": [0.6], "descriptors": [0.7], "waffle": [0.61] * 5})
    assert first == "Descriptors: +10.0 points vs “a photo of a …” (95% CI +8.2 to +11.9)."
    assert second.startswith("Random words: +1.0 points vs “a photo of a …” (95% CI +0.")
    assert "; descriptors beat them by 9.0 points (95% CI 7." in second


def test_chance_does_as_well() -> None:
    first, second = _said(
        {"photo": [0.6], "descriptors": [0.613], "waffle": [0.60, 0.61, 0.62, 0.615, 0.605]}
    )
    assert first.startswith("Descriptors: +1.3 points vs “a photo of a …” (95% CI +")
    assert "no significant difference" not in first
    assert "; descriptors are not significantly different from them (95% CI −" in second


def test_descriptors_lose() -> None:
    first, second = _said({"photo": [0.6], "descriptors": [0.5], "swapped": [0.55] * 5})
    assert first == "Descriptors: −10.0 points vs “a photo of a …” (95% CI −11.9 to −8.2)."
    assert "; descriptors trail them by 5.0 points (95% CI 3." in second


def test_no_difference_is_no_gain() -> None:
    (said,) = _said({"photo": [0.6], "descriptors": [0.6]})
    assert said.startswith("Descriptors: 0.0 points vs “a photo of a …” (95% CI −0.")
    assert said.endswith("): no significant difference.")


def test_nothing_to_compare_with() -> None:
    first, second = _said({"descriptors": [0.6], "waffle": [0.6, 0.5]})
    assert first.startswith("Descriptors reach 60.0% (95% CI 5")
    assert second.startswith("Random words reach 55.0% (95% CI ")


def test_a_control_alone() -> None:
    (said,) = _said({"photo": [0.5], "swapped": [0.3, 0.3]})
    assert said.startswith("Descriptors shuffled between classes: −20.0 points vs “a photo of a …” (95% CI −")


@pytest.mark.parametrize(("images", "few"), [(30, True), (99, True), (100, False)])
def test_few_images_are_told(images: int, few: bool) -> None:
    last = _said({"photo": [0.5], "descriptors": [0.6]}, images)[-1]
    assert last.startswith(f"{images} images are few: ") == few


def test_one_image_and_one_arm() -> None:
    first, second = _said({"photo": [1.0]}, 1)
    assert first.startswith("“a photo of a …” reaches 100.0% (95% CI ")
    assert second == "1 image is few: only a large difference can show."


def test_a_test_that_doubts_is_heard() -> None:
    (said,) = _said({"photo": [0.1], "templates": [0.15]}, 100)[:1]  # 5 images against none
    assert said.startswith("Templates: +5.0 points vs “a photo of a …” (95% CI +")
    assert said.endswith("), but McNemar’s p is 0.06: it may be chance.")


@pytest.mark.parametrize(
    ("name", "called"),
    [("descriptors paper", "Descriptors (paper)"), ("templates", "Templates"), ("name", "Bare names")],
)
def test_every_arm_has_its_sentence(name: str, called: str) -> None:
    said = _said({"photo": [0.5], name: [0.6]})
    assert len(said) == 1
    assert said[0].startswith(f"{called}: +10.0 points vs “a photo of a …” (95% CI +")


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_single_draw_is_told(seeds: int) -> None:
    said = _said({"photo": [0.5], "waffle": [0.5] * seeds})
    assert any(line.startswith("With a single draw, ") for line in said) == (seeds == 1)


@pytest.mark.parametrize(
    ("low", "high", "p", "end"),
    [
        (0.0, 0.2, 0.01, "): no significant difference."),
        (-0.2, 0.0, 0.01, "): no significant difference."),
        (0.001, 0.2, 0.05, "), but McNemar’s p is 0.05: it may be chance."),
        (0.001, 0.2, 0.0499, ")."),
    ],
)
def test_where_doubt_begins(low: float, high: float, p: float, end: str) -> None:
    photo, templates = _arms({"photo": [0.5], "templates": [0.6]})
    lead = Difference("photo", (low + high) / 2, low, high, p)
    (said,) = sentences([photo, replace(templates, difference=lead)])
    assert said.endswith(end)


@pytest.mark.parametrize("shares", [(0.504, 0.5), (0.5, 0.504)])
def test_an_interval_that_ends_at_zero_is_no_difference_from_a_control(shares: tuple[float, float]) -> None:
    subject, control = _arms({"descriptors": [shares[0]], "waffle": [shares[1]]})
    lead = metrics.difference(subject.hits(), control.hits())
    assert 0.0 in (lead.low, lead.high)
    _, said, *_ = sentences([subject, control])
    assert "; descriptors are not significantly different from them (95% CI " in said
