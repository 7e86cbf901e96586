"""Which pictures are shown: as many of each kind as there are, class after class."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.evaluation.evaluate import MOST, choose
from fieldmarks.evaluation.metrics import Answered
from fieldmarks.evaluation.results import Run


def _arm(right: list[bool]) -> Answered:
    rank = np.array([0 if one else 1 for one in right], np.int32)
    return Answered(name="", text="", aggregate="", texts=(), runs=(Run(rank, rank),))


pictures = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), max_size=120)


@given(pictures)
def test_kinds_are_balanced(drawn: list[tuple[bool, bool, int]]) -> None:
    described, plain = [one[0] for one in drawn], [one[1] for one in drawn]
    labels = np.array([one[2] for one in drawn], np.int32)
    chosen = choose(_arm(described), _arm(plain), labels)
    assert chosen == sorted(set(chosen))
    kinds = [(described[one], plain[one]) for one in chosen]
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
