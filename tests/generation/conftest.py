"""Servers that several modules of these tests talk to."""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PORTS = 3  # that are tried, as another program may take one before the server does


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def news() -> Iterator[list[str]]:
    """What is logged in a test, as the command line shows it."""
    handler, logger = _Messages(), logging.getLogger("fieldmarks.generation")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.texts
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def transformers_serve() -> Iterator[str]:
    """The base URL of a real `transformers serve` on a free loopback port."""
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("transformers serve is not installed: pip install 'fieldmarks[local-server]'")
    program = Path(sys.executable).with_name("transformers")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    quiet = subprocess.DEVNULL
    for _ in range(PORTS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(program), "serve", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
        try:
            if _is_up(f"http://127.0.0.1:{port}/health", process):
                yield f"http://127.0.0.1:{port}/v1"
                return
        finally:
            process.terminate()
            process.wait(30)
    raise AssertionError(f"transformers serve ended at once on {PORTS} ports")


def _is_up(url: str, process: "subprocess.Popen[bytes]", seconds: float = 180) -> bool:
    """Wait until a server answers; return False if it ends, as where another program took its port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return True  # it answers, if not there
        except OSError:
            time.sleep(0.3)
        else:
            return True
    raise TimeoutError("transformers serve did not start")
