"""Helpers shared by the tests of several packages."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.results import Failure


class _Collecting(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[str]]:
    """Yield a list that collects the library's log messages, whatever the command line has set up before."""
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


def write_store(path: Path, classes: Mapping[str, Sequence[str]]) -> Path:
    """Write a store of minimal lines, as a person would type them, and return its path."""
    lines = (json.dumps({"class": name, "descriptors": list(texts)}) for name, texts in classes.items())
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


TOOK = re.compile(r" Took (\d+\.\d s|\d+ s|\d+ min \d+ s|[\d,]+ h \d+ min)\.$", re.MULTILINE)


def untimed(text: str) -> str:
    """Return what commands printed without the time they took, which varies from run to run."""
    return TOOK.sub("", text)


def on_a_terminal(arguments: Sequence[str], answer: bytes) -> tuple[int, str]:
    """Run a command with a terminal as its stdin, and answer there; return the exit code and stderr."""
    own, theirs = pty.openpty()
    command = [sys.executable, "-m", "fieldmarks", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        os.write(own, answer)
        _, shown = process.communicate(timeout=60)
    os.close(own)
    return process.returncode, untimed(shown)


def write_set(folder: Path, rows: Iterable[Embedded | Failure], **metadata: str) -> None:
    """Write embeddings as a set, or add them to an existing one; `metadata` says how they were made."""
    made = {"model": "some/clip", "dtype": "float32", "engine": "torch", "decode": "full"} | metadata
    with SetWriter(folder, made) as writer:
        for _ in writer.take(rows):
            pass
