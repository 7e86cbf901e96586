"""Which pictures are shown: as many of each kind as there are, class after class."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.evaluation.evaluate import MOST, choose
from fieldmarks.evaluation.results import ArmResult, Estimate, Predictions


def _arm(right: list[bool]) -> ArmResult:
    rank = np.array([0 if hit else 1 for hit in right], np.int32)
    nothing = Estimate(0, 0, 0)
    return ArmResult(
        name="",
        role="other",
        text="",
        aggregate="",
        texts=(),
        runs=(Predictions(rank, rank),),
        top1=nothing,
        top5=None,
        mean_per_class=nothing,
        difference=None,
        recall=(),
        gain=None,
        confused=(),
    )


pictures = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), max_size=120)


@given(pictures)
def test_kinds_are_balanced(drawn: list[tuple[bool, bool, int]]) -> None:
    described, plain = [image[0] for image in drawn], [image[1] for image in drawn]
    labels = np.array([image[2] for image in drawn], np.int32)
    chosen = choose(_arm(described), _arm(plain), labels)
    assert chosen == sorted(set(chosen))
    kinds = [(described[image], plain[image]) for image in chosen]
    there = list(zip(described, plain, strict=True))
    assert (True, True) not in kinds
    counts = {kind: kinds.count(kind) for kind in ((True, False), (False, True), (False, False))}
    assert len(chosen) == min(MOST, sum(there.count(kind) for kind in counts))
    for kind, count in counts.items():
        assert count >= min(there.count(kind), MOST // 3)


def test_classes_take_turns() -> None:
    labels = np.array([0] * 40 + [1, 2, 3], np.int32)
    chosen = choose(_arm([False] * 43), None, labels)
    assert len(chosen) == MOST
    assert {40, 41, 42} <= set(chosen)
