"""Intervals cover the truth as often as they say, and are the textbook's where there is one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from fieldmarks.evaluation import metrics
from fieldmarks.evaluation.metrics import Hits
from fieldmarks.evaluation.results import Estimate

PICTURES, CLASSES, REPETITIONS = 400, 10, 400
Labels = NDArray[np.int64]
Drawn = tuple[Estimate, float]  # an interval, and the truth that it should cover


def _hits(runs: list[list[int]]) -> Hits:
    return np.array(runs, bool)


hits_of_one = st.lists(st.booleans(), min_size=2, max_size=60).map(lambda run: np.array([run]))


@pytest.mark.slow
@given(hits_of_one)
def test_of_one_run_it_is_wilsons(hits: Hits) -> None:
    found = metrics.share(hits)
    known = stats.binomtest(int(hits.sum()), hits.size).proportion_ci(0.95, "wilson")
    assert found.value == hits.mean()
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)


@given(hits_of_one)
def test_equal_runs_are_as_one(hits: Hits) -> None:
    once, often = metrics.share(hits), metrics.share(np.repeat(hits, 5, axis=0))
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high), abs=1e-9)


def test_runs_apart_widen() -> None:
    alike = _hits([[1, 1, 0, 0] * 25] * 4)
    apart = _hits([[1, 1, 1, 1] * 25, [1, 1, 1, 0] * 25, [1, 0, 0, 0] * 25, [0, 0, 0, 0] * 25])
    narrow, wide = metrics.share(alike), metrics.share(apart)
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_mean_per_class_weighs_classes_alike() -> None:
    hits = _hits([[1] * 90 + [0] * 10])
    labels = np.array([0] * 90 + [3] * 10)
    found = metrics.mean_per_class(hits, labels)
    assert found.value == 0.5
    assert 0.4 < found.low < 0.5 < found.high < 0.6


def test_mean_per_class_of_one_picture_a_class() -> None:
    found = metrics.mean_per_class(_hits([[1, 0, 1, 1]]), np.arange(4))
    assert found.value == 0.75
    assert found.low < 0.4 < 0.9 < found.high


@pytest.mark.parametrize("hit", [0, 1])
def test_no_variation_is_no_certainty(hit: int) -> None:
    hits = _hits([[hit] * 20])
    for found in (metrics.share(hits), metrics.mean_per_class(hits, np.repeat([0, 1], 10))):
        assert found.value == hit
        assert 0.1 < found.high - found.low < 0.25
    lead = metrics.difference(hits, hits)
    assert (lead.value, lead.low < -0.04, lead.high > 0.04) == (0, True, True)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=30, max_size=60))
def test_a_difference_turns_round(pairs: list[tuple[bool, bool]]) -> None:
    """With the sides changed, and with right and wrong changed, it is the same with another sign."""
    hits, others = np.array(pairs).T[:, None]  # (1, N) each
    lead, back = metrics.difference(hits, others), metrics.difference(others, hits)
    assert lead.value == pytest.approx(hits.mean() - others.mean())
    assert -1 <= lead.low <= lead.value <= lead.high <= 1
    assert (-back.high, -back.low) == pytest.approx((lead.low, lead.high), abs=0.05)
    wrong = metrics.difference(~hits, ~others)
    assert (-wrong.high, -wrong.low) == pytest.approx((lead.low, lead.high), abs=0.05)
    assert metrics.mcnemar(hits, others) == metrics.mcnemar(others, hits)


@pytest.mark.parametrize("side", [0, 1])
def test_seeds_of_either_side_widen_a_difference(side: int) -> None:
    certain = _hits([[1, 0] * 50])
    same, apart = _hits([[1, 0] * 50] * 4), _hits([[1, 1] * 50, [1, 0] * 50, [0, 1] * 50, [0, 0] * 50])
    narrow, wide = (
        metrics.difference(*((runs, certain) if side == 0 else (certain, runs))) for runs in (same, apart)
    )
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_mcnemar_is_the_sign_test_of_what_differs() -> None:
    hits, others = _hits([[1] * 9 + [0] * 2 + [1] * 50]), _hits([[0] * 9 + [1] * 2 + [1] * 50])
    assert metrics.mcnemar(hits, others) == pytest.approx(2 * stats.binom.cdf(2, 11, 0.5))
    assert metrics.mcnemar(hits, hits) == 1.0
    assert metrics.mcnemar(np.repeat(hits, 2, axis=0), others) is None


class World:
    """Synthetic scores: by how much the true class leads, of pictures and seeds that are drawn anew.

    The lead is level + class + picture + seed + rest, each normal but the class's; what is right leads by
    more than 0, so that the true accuracy is known.
    """

    def __init__(self, level: float, runs: int, seeds: float, chance: np.random.Generator) -> None:
        self.level, self.runs, self.seeds, self.chance = level, runs, seeds, chance
        self.of_class = np.linspace(-0.5, 0.5, CLASSES)  # (C,)

    def truth(self, gain: float = 0.0) -> float:
        spread = np.sqrt(2 + (self.seeds if self.runs > 1 else 0) ** 2)
        return float(stats.norm.cdf((self.level + gain + self.of_class) / spread).mean())

    def leads(self, labels: Labels, pictures: NDArray[np.float64], runs: int) -> NDArray[np.float64]:
        seeds = self.seeds * self.chance.standard_normal((runs, 1)) if runs > 1 else 0
        rest = self.chance.standard_normal((runs, len(labels)))
        leads: NDArray[np.float64] = self.level + self.of_class[labels] + pictures + seeds + rest
        return leads

    def top1(self) -> Drawn:
        labels = self.chance.integers(0, CLASSES, PICTURES)
        hits = self.leads(labels, self.chance.standard_normal(PICTURES), self.runs) > 0
        return metrics.share(hits), self.truth()

    def per_class(self) -> Drawn:
        labels = np.repeat(np.arange(CLASSES), [20, 30, 30, 40, 40, 40, 40, 50, 50, 60])
        hits = self.leads(labels, self.chance.standard_normal(PICTURES), self.runs) > 0
        return metrics.mean_per_class(hits, labels), self.truth()

    def paired(self) -> Drawn:
        labels = self.chance.integers(0, CLASSES, PICTURES)
        pictures = self.chance.standard_normal(PICTURES)
        plain = World(self.level, 1, 0, self.chance)
        hits = self.leads(labels, pictures + 0.3, self.runs) > 0
        others = plain.leads(labels, pictures, 1) > 0
        return metrics.difference(hits, others), self.truth(0.3) - plain.truth()


METHODS: dict[str, Callable[[World], Drawn]] = {
    "top-1": World.top1,
    "mean per class": World.per_class,
    "paired difference": World.paired,
}


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "seeds"), [(1, 0.0), (5, 0.0), (5, 0.2)])
@pytest.mark.parametrize(  # accuracies of 4, 50 and 96 %
    ("method", "level"),
    [
        *((method, level) for method in ("top-1", "mean per class") for level in (-2.6, 0.0, 2.6)),
        # A difference takes long, and with right and wrong changed it is the same; see above.
        *(("paired difference", level) for level in (-2.6, 0.0)),
    ],
)
def test_coverage(method: str, runs: int, seeds: float, level: float) -> None:
    world = World(level, runs, seeds, np.random.default_rng(1))
    repetitions = REPETITIONS // 2 if method == "paired difference" else REPETITIONS
    drawn = [METHODS[method](world) for _ in range(repetitions)]
    covered = sum(found.low <= truth <= found.high for found, truth in drawn) / repetitions
    assert 0.92 <= covered <= 0.98
