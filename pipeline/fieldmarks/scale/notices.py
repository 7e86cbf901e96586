"""What Ray itself says on the terminal: one line each, and not what is of no use there.

All of it is also in the logs of Ray's session, where Ray's tools show it.
"""

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Final

logger = logging.getLogger(__name__)

_LONGEST: Final = 300  # characters of a message
_STDERR: Final = 2
_LAST: Final = 5.0  # seconds for what is still in the pipe
_COLOR: Final = re.compile(r"\x1b\[[0-9;]*m")
_REMARK: Final = re.compile(
    rb"\[[^\]\n]*\] (?:"
    # Ray Data gives arguments to all actors, which cannot be changed; its job keeps them while it runs.
    rb"core_worker\.cc:\d+: Actor with class name: [^\n]* has constructor arguments in the object store"
    # Once a second, without a token or with another; then it is raised.
    rb"|gcs_client\.cc:\d+: Failed to get cluster ID from GCS server: Unauthenticated"
    rb")[^\n]*\n"
)


class Messages(io.TextIOBase):
    """A stdout for Ray, which prints there what its machines report: the first line becomes a warning."""

    def __init__(self) -> None:
        self._last = ""

    def writable(self) -> bool:
        """Whether it can be written to: yes."""
        return True

    def write(self, text: str) -> int:
        """Log a message; one that is repeated at once is logged once."""
        lines = [line.strip() for line in _COLOR.sub("", text).splitlines() if line.strip()]
        if lines and lines[0] != self._last:
            self._last = lines[0]
            logger.warning("Ray: %s", lines[0][:_LONGEST])
            logger.debug("%s", "\n".join(lines))
        return len(text)


@contextmanager
def without_remarks() -> Iterator[None]:
    """Keep Ray's remarks that help nobody off stderr; all else that is written there passes.

    Ray's level of logging, which would also do this, is that of the files of its processes too.
    """
    if sys.stderr is None:  # it was closed before we began, and its number may be any file's
        yield
        return
    there = os.dup(_STDERR)
    reading, writing = os.pipe()
    passing = Thread(target=_pass_on, args=(reading, there), daemon=True, name="fieldmarks-stderr")
    passing.start()
    os.dup2(writing, _STDERR)
    os.close(writing)
    try:
        yield
    finally:
        os.dup2(there, _STDERR)  # so that the pipe ends
        passing.join(_LAST)


def _pass_on(reading: int, there: int) -> None:
    """Copy a pipe to its end; Ray writes a line at once, so that it is in one part."""
    with os.fdopen(reading, "rb", buffering=0) as pipe, os.fdopen(there, "wb", buffering=0) as stderr:
        while part := pipe.read(2**16):
            try:
                stderr.write(_REMARK.sub(b"", part))
            except OSError:  # as everywhere, a full disk under a log does not stop the work
                continue
