"""Ctrl-C after a model was let go of, wherever that happened, is heard and does not end the process."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import gc, os, signal, sys, threading
from fieldmarks.classification.embedder import Encoder
held = [Encoder(sys.argv[1], device="cpu", dtype="float32", engine="openvino")]
held[0].encode_texts(["fur"])
def let_go():
    held.clear()
    gc.collect()
other = threading.Thread(target=let_go)
other.start()
other.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.slow
def test_ctrl_c_after_a_model_is_gone(tiny_clip: Path) -> None:
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_clip)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\n", "")
