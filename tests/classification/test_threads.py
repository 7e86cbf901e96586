"""Threads side by side: every item once, an error ends all, and BLAS is left as it was."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from fieldmarks.classification.threads import cores, for_each


def _blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_every_item_is_computed_once() -> None:
    seen: list[int] = []
    for_each(seen.append, range(1000))
    assert sorted(seen) == list(range(1000))
    for_each(seen.append, [])
    assert len(seen) == 1000


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_items_are_computed_side_by_side() -> None:
    together = threading.Barrier(2, timeout=30)
    for_each(lambda _: together.wait(), range(8))


def test_what_a_function_raises_ends_all() -> None:
    seen: list[int] = []

    def fail(item: int) -> None:
        seen.append(item)
        if item == 3:
            raise ValueError("no")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="no"):
        for_each(fail, range(10_000))
    assert len(seen) < 1000


def test_what_the_items_raise_ends_all() -> None:
    seen: list[int] = []

    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        for_each(seen.append, items())
    assert sorted(seen) == list(range(5))


def test_products_are_single_threaded_meanwhile_and_the_setting_is_restored() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    before, during = _blas_threads(), list[set[int]]()

    def compute(item: int) -> None:
        during.append(_blas_threads())
        time.sleep(0.001)

    callers = [threading.Thread(target=for_each, args=(compute, range(10 + 10 * n))) for n in range(3)]
    for caller in callers:
        caller.start()
    for_each(compute, range(5))
    for caller in callers:
        caller.join()
    assert len(during) == 65
    assert set().union(*during) == {1}
    assert _blas_threads() == before
    with pytest.raises(ZeroDivisionError):
        for_each(lambda item: 1 / item, range(5))
    assert _blas_threads() == before
