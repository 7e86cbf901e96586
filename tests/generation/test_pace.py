"""No minute holds more requests or tokens than its limit."""

import asyncio
from collections.abc import Awaitable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.generation.pace import Pace


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> Awaitable[None]:
        self.now += seconds
        return asyncio.sleep(0)


def _starts(tokens: list[int], rpm: float | None, tpm: float | None) -> list[float]:
    clock = Clock()
    pace = Pace(rpm, tpm, sleep=clock.sleep, clock=clock)

    async def go() -> list[float]:
        starts = []
        for one in tokens:
            await pace.take(one)
            starts.append(clock.now)
        return starts

    return asyncio.run(go())


def test_without_limits_nothing_waits() -> None:
    assert _starts([1000] * 5, None, None) == [1000.0] * 5


def test_requests_are_spread_evenly() -> None:
    assert _starts([1] * 4, 30, None) == [1000.0, 1002.0, 1004.0, 1006.0]


def test_tokens_are_spread_by_their_number() -> None:
    assert _starts([100, 50, 50], None, 600) == [1000.0, 1010.0, 1015.0]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 100), st.integers(500, 5000))
def test_no_minute_holds_more_than_its_share(tokens: list[int], rpm: int, tpm: int) -> None:
    starts = _starts(tokens, rpm, tpm)
    for i, start in enumerate(starts):
        minute = [j for j, at in enumerate(starts) if start <= at < start + 60 - 1e-6 and j >= i]
        assert len(minute) <= rpm
        assert sum(tokens[j] for j in minute[:-1]) <= tpm


def test_tokens_that_were_not_needed_are_given_back() -> None:
    clock = Clock()
    pace = Pace(None, 60, sleep=clock.sleep, clock=clock)

    async def go() -> None:
        await pace.take(60)
        pace.correct(60, 10)
        await pace.take(1)

    asyncio.run(go())
    assert clock.now == pytest.approx(1010.0)
