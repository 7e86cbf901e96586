"""How work is cut into passes and done ahead: batches of images, texts by length, threads in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield passes over texts, each a list of their numbers: neighbours in length, at least one of them.

    Padded to its longest text, a pass has at most `budget` tokens.
    """
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[row] > budget:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def ahead(function: Callable[[In], Out], items: Iterable[In], *, window: int) -> Iterator[Out]:
    """Yield function(item) in the items' order, computed in threads, at most `window` items ahead."""
    items = iter(items)
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="fieldmarks")
    waiting: deque[Future[Out]] = deque()
    try:
        waiting.extend(pool.submit(function, item) for item in islice(items, window))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batched(items: Iterable[Out], size: int) -> Iterator[list[Out]]:
    """Yield lists of `size` items, the last one perhaps shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
