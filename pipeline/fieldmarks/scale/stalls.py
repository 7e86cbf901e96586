"""Noticing that a job stands still because a machine was lost.

Ray waits without end for an actor that no machine has room for any more, as for the GPU of the lost one.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Final, TypeVar

from fieldmarks.errors import ClusterError
from fieldmarks.text import counted

LOOK: Final = 5.0  # seconds between looks at the cluster while nothing comes
END: Final = 3.0  # seconds for the thread that fetches; where nothing comes, it waits without end
STALL: Final = 180.0  # seconds without anything after a machine was lost; a model loads in less

Item = TypeVar("Item")


def until_stalled(
    items: Iterator[Item], machines: Callable[[], int], *, look: float = LOOK, stall: float = STALL
) -> Iterator[Item]:
    """Yield items, which are fetched in a thread, and raise what fetching raises.

    `machines` counts those of the cluster. Raises ClusterError where there are fewer than there were, and
    nothing came for `stall` seconds.
    """
    fetched: Queue[tuple[bool, Any]] = Queue(1)
    ended = Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not ended.is_set():
            with suppress(Full):
                fetched.put(entry, timeout=look)
                break

    def fetch() -> None:
        try:
            for item in items:
                put((True, item))
                if ended.is_set():
                    return
            put((False, None))
        except BaseException as error:  # raised by the thread that waits
            put((False, error))
        finally:
            if isinstance(items, Generator):
                items.close()  # Ray Data ends what is under way

    most, since = machines(), time.monotonic()
    fetching = Thread(target=fetch, daemon=True, name="fieldmarks-passes")
    fetching.start()
    try:
        while True:
            try:
                is_item, value = fetched.get(timeout=look)
            except Empty:
                left = machines()
                most = max(most, left)
                if left < most and time.monotonic() - since > stall:
                    raise ClusterError(
                        f"{counted(most - left, 'machine')} of the cluster lost, and nothing has come"
                        f" for {stall:.0f} s: what was complete before is in the set; run the same command"
                        " again, with fewer --actors if you set their number"
                    ) from None
                continue
            since = time.monotonic()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        ended.set()
        fetching.join(END)
