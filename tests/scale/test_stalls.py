"""A job that stands still because a machine was lost ends with a line that says so; others wait."""

import time
from collections.abc import Iterator
from threading import Event

import pytest

from fieldmarks.errors import ClusterError
from fieldmarks.scale.stalls import until_stalled


def test_items_come_in_order_and_errors_as_they_are() -> None:
    def failing() -> Iterator[int]:
        yield from range(3)
        raise LookupError("the fourth")

    assert list(until_stalled(iter(range(100)), lambda: 2)) == list(range(100))
    items = until_stalled(failing(), lambda: 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError, match="the fourth"):
        next(items)


def test_a_lost_machine_and_nothing_since_is_an_error() -> None:
    machines, ended = [3], Event()

    def standing_still() -> Iterator[int]:
        yield 1
        machines[0] = 1
        ended.wait(20)

    items = until_stalled(standing_still(), lambda: machines[0], look=0.01, stall=0.1)
    assert next(items) == 1
    began = time.monotonic()
    with pytest.raises(ClusterError, match="2 machines of the cluster lost, and nothing has come"):
        next(items)
    assert 0.1 < time.monotonic() - began < 10
    ended.set()


@pytest.mark.parametrize("machines", [iter([2] * 1000), iter([1, 2, 3] + [3] * 1000)])
def test_a_slow_job_is_waited_for(machines: Iterator[int]) -> None:
    def slow() -> Iterator[int]:
        time.sleep(0.3)
        yield 1

    assert list(until_stalled(slow(), lambda: next(machines), look=0.01, stall=0.05)) == [1]


def test_what_is_left_is_not_fetched() -> None:
    fetched = []

    def many() -> Iterator[int]:
        for number in range(1000):
            fetched.append(number)
            yield number

    items = until_stalled(many(), lambda: 1, look=0.01)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    time.sleep(0.1)
    assert len(fetched) < 10
