"""What Ray says by itself: its messages in one line each, and no remark on what nobody can change."""

import logging
import os
import subprocess
import sys

import pytest

from fieldmarks.scale.notices import Messages, without_remarks

REMARK = (
    "[2026-01-01 10:00:00,000 E 1 2] core_worker.cc:2465: Actor with class name: 'MapWorker(MapBatches(A))'"
    " and ID: '00' has constructor arguments in the object store and max_restarts > 0. If they are lost, …\n"
)
FAILURE = "[2026-01-01 10:00:00,000 C 1 2] core_worker.cc:99: Check failed\n"


def test_a_message_is_one_line_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    messages = Messages()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            print("\x1b[33m(raylet)\x1b[0m A task failed. Error: Traceback\n  File …\n    x", file=messages)
    assert [record.getMessage() for record in caplog.records] == [
        "Ray: (raylet) A task failed. Error: Traceback"
    ]


def test_only_the_remark_is_kept_off_stderr() -> None:
    code = f"""import os
from fieldmarks.scale.notices import without_remarks
with without_remarks():
    for line in {[REMARK, FAILURE, "a part of a line"]!r}:
        os.write(2, line.encode())
os.write(2, {REMARK!r}.encode())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == f"{FAILURE}a part of a line{REMARK}"


def test_stderr_is_as_before_after_an_error() -> None:
    before = os.fstat(2)
    with pytest.raises(LookupError), without_remarks():
        raise LookupError
    assert os.path.samestat(os.fstat(2), before)
