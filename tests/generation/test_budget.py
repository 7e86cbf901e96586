"""Money is set aside before it is spent, and never more than the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.generation.ledger import Budget
from fieldmarks.generation.question import Question, Usage

REQUEST = Question("fox", "x" * 400, max_tokens=100).estimate()


def test_an_estimate_reads_four_bytes_a_token_and_writes_at_most_all() -> None:
    assert Usage(116, 100) == REQUEST


def test_prices_are_per_million() -> None:
    assert Budget(2.0, 10.0).cost(Usage(1_000_000, 500_000)) == pytest.approx(7.0)


@given(
    st.lists(st.tuples(st.integers(1, 232), st.integers(0, 100)), max_size=40),
    st.floats(0, 0.05),
    st.integers(1, 6),
)
def test_the_limit_is_never_passed(usages: list[tuple[int, int]], limit: float, at_once: int) -> None:
    budget = Budget(3.0, 15.0, limit)
    waiting: list[tuple[int, int]] = []
    for read, written in usages:
        if budget.allows(REQUEST):
            budget.reserve(REQUEST)
            waiting.append((read, written))
        if len(waiting) >= at_once:
            budget.settle(REQUEST, Usage(*waiting.pop(0)))
    for usage in waiting:
        budget.settle(REQUEST, Usage(*usage))
    assert (budget.spent or 0) <= limit


def test_what_brought_no_answer_costs_nothing_and_frees_its_share() -> None:
    most = Budget(1.0, 1.0).cost(Usage(232, 100)) or 0
    budget = Budget(1.0, 1.0, most * 1.5)
    budget.reserve(REQUEST)
    assert not budget.allows(REQUEST)
    budget.release(REQUEST)
    assert budget.spent == 0
    assert budget.allows(REQUEST)


def test_unknown_prices_make_an_unknown_cost() -> None:
    budget = Budget()
    budget.reserve(REQUEST)
    budget.settle(REQUEST, Usage(100, 100))
    assert budget.spent is None
    assert budget.allows(REQUEST)


def test_an_answer_without_usage_counts_as_estimated() -> None:
    budget = Budget(1.0, 1.0)
    budget.settle(REQUEST, None)
    assert budget.usage == REQUEST
