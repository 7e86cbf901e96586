"""Sentences say what the figures allow: gains, losses, chance as good, few pictures, no baseline."""

import numpy as np
import pytest

from fieldmarks.evaluation.metrics import Answered, figures
from fieldmarks.evaluation.results import ArmResult, Run
from fieldmarks.evaluation.summary import sentences


def _arms(shares: dict[str, list[float]], pictures: int = 1000) -> list[ArmResult]:
    """Return arms with runs of these shares; the more a run has right, the more of the same pictures."""
    labels = np.zeros(pictures, np.int32)
    answered = []
    for name, of_runs in shares.items():
        ranks = [(np.arange(pictures) >= round(share * pictures)).astype(np.int32) for share in of_runs]
        runs = tuple(Run(rank, rank, seed) for seed, rank in enumerate(ranks))
        answered.append(Answered(name=name, text="", aggregate="mean-embedding", texts=(), runs=runs))
    other = next((arm for arm in answered if arm.name == "photo"), None)
    return [figures(arm, labels, 2, None if arm is other else other) for arm in answered]


def _said(shares: dict[str, list[float]], pictures: int = 1000) -> tuple[str, ...]:
    return sentences(_arms(shares, pictures))


def test_descriptors_help_more_than_chance() -> None:
    first, second = _said({"photo": [0.6], "descriptors": [0.7], "waffle": [0.61] * 5})
    assert first.startswith("Descriptors gain 10.0 points over 'a photo of a', interval 8.")
    assert second.startswith("Random words gain 1.0, interval 0.")
    assert "; descriptors lead them by 9.0, interval 7." in second


def test_chance_does_as_well() -> None:
    first, second = _said(
        {"photo": [0.6], "descriptors": [0.613], "waffle": [0.60, 0.61, 0.62, 0.615, 0.605]}
    )
    assert first.startswith("Descriptors gain 1.3 points over 'a photo of a'")
    assert "no difference" not in first
    assert "; the difference between them and descriptors is not significant, interval -" in second


def test_descriptors_lose() -> None:
    first, second = _said({"photo": [0.6], "descriptors": [0.5], "swapped": [0.55] * 5})
    assert first.startswith("Descriptors lose 10.0 points against 'a photo of a', interval 8.")
    assert "; descriptors are 5.0 behind them, interval 3." in second


def test_no_difference_is_no_gain() -> None:
    (said,) = _said({"photo": [0.6], "descriptors": [0.6]})
    assert said.startswith("Descriptors gain 0.0 points")
    assert said.endswith(": no difference is shown.")


def test_nothing_to_compare_with() -> None:
    first, second = _said({"descriptors": [0.6], "waffle": [0.6, 0.5]})
    assert first.startswith("Descriptors reach 60.0 %, interval 5")
    assert second.startswith("Random words reach 55.0 %, interval ")


def test_a_control_alone() -> None:
    (said,) = _said({"photo": [0.5], "swapped": [0.3, 0.3]})
    assert said.startswith("Other classes' descriptors lose 20.0 points")


def test_few_pictures_are_told() -> None:
    assert _said({"photo": [0.5], "descriptors": [0.6]}, 30)[-1].startswith("30 pictures are few: ")


def test_one_picture_and_one_arm() -> None:
    first, second = _said({"photo": [1.0]}, 1)
    assert first.startswith("'a photo of a' reaches 100.0 %, interval ")
    assert second == "1 picture is few: a difference has to be large to show."


def test_a_test_that_doubts_is_heard() -> None:
    (said,) = _said({"photo": [0.1], "templates": [0.15]}, 100)[:1]  # 5 pictures against none
    assert said.startswith("Templates gain 5.0 points over 'a photo of a', interval ")
    assert said.endswith(", but McNemar's p is 0.06: it may be chance.")


@pytest.mark.parametrize(
    ("name", "called"),
    [("descriptors paper", "Descriptors (paper)"), ("templates", "Templates"), ("name", "Bare names")],
)
def test_every_arm_has_its_sentence(name: str, called: str) -> None:
    said = _said({"photo": [0.5], name: [0.6]})
    assert len(said) == 1
    assert said[0].startswith(f"{called} gain 10.0 points over 'a photo of a', interval ")
