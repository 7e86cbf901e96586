"""What tests of several parts share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Collecting(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[str]]:
    """Give a list that collects what the library logs, whatever the command line has set up before."""
    logger, messages = logging.getLogger("fieldmarks"), list[str]()
    handler, before = _Collecting(messages), logger.level
    handler.setLevel(level)
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
