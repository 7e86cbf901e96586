"""Memory between the layers of a model on a CPU: kept for the next layer, not handed back and asked for anew.

A layer's numbers take megabytes, and glibc gives blocks of that size back to the system at once. The system
fills each new one with noughts, which takes up to a fifth of the time of a model of float32.
"""

import ctypes
import sys
from functools import cache
from typing import Final

KEPT: Final = 512 * 2**20  # bytes that may stay with the process once they are free
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to KEPT bytes of freed memory for its next use, where its C library can.

    Source: mallopt(3).
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return
    mallopt(_TRIM_THRESHOLD, KEPT)
    mallopt(_MMAP_THRESHOLD, KEPT)
