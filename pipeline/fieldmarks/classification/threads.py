"""Threads that compute side by side in NumPy, one for each core.

NumPy's BLAS starts threads of its own for a large product. Where several threads multiply at once, these wait
for each other, and a product takes up to ten times as long. So while threads of this module run, each product
is computed by the thread that asks for it.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from threading import Event, Lock, local
from typing import Any, Final, TypeVar

Item = TypeVar("Item")


def cores() -> int:
    """Return how many processor cores this process may use, or this thread where it has a share of them."""
    share: int | None = getattr(_OWN, "share", None)
    if share is not None:
        return share
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take_share(of: int) -> None:
    """Let this thread use its share of the process's cores from now on, one of so many equal ones.

    Threads that compute at the same time, each with as many threads of its own as there are cores, wait for
    each other's most of the time. Of one core, all is done in the thread itself.
    """
    _OWN.share = None
    _OWN.share = max(1, cores() // of)


def has_share() -> bool:
    """Whether this thread has a share of the cores."""
    return getattr(_OWN, "share", None) is not None


def for_each(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call a function with every item, in threads and in no order; an item is taken when a thread is free.

    Items are taken by one thread at a time. What the function or the items raise ends all of it, and is
    raised. Calls from several threads wait for each other, as each uses all cores; they cannot be nested.
    """
    waiting, turn, over = iter(items), Lock(), Event()

    def work() -> None:
        try:
            while not over.is_set():
                with turn:
                    item: Any = next(waiting, over)
                if item is over:
                    return
                function(item)
        except BaseException:
            over.set()
            raise

    # What a BLAS takes as its setting differs: that of the process, or of each thread.
    limit = partial(_controller().limit, limits=1, user_api="blas")
    with _TURN, limit(), ThreadPoolExecutor(cores(), "fieldmarks", initializer=limit) as pool:
        try:
            for done in [pool.submit(work) for _ in range(cores())]:
                done.result()
        finally:  # on Ctrl-C too, so that the threads end with the item they are at
            over.set()


@cache
def _controller() -> Any:
    import numpy  # noqa: F401  # its BLAS is looked for among the libraries that are loaded
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()  # which goes through all loaded libraries, for milliseconds


_OWN: Final = local()
_TURN: Final = Lock()  # the setting of a process cannot be changed and restored by two at once
