"""An interrupt in the middle of many images: what is finished is kept, and a second run does the rest."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

IMAGES = 200


@pytest.mark.slow
def test_an_interrupted_run_leaves_a_whole_cache_and_a_whole_set(tiny_clip: Path, tmp_path: Path) -> None:
    folder, out, cache = (tmp_path / name for name in ("photos", "set", "cache"))
    folder.mkdir()
    for row in range(IMAGES):
        pixels = np.random.default_rng(row).integers(0, 256, (400, 400, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{row:03}.png")
    command = [sys.executable, "-m", "fieldmarks", "embed", str(folder), "--out", str(out)]
    command += ["--clip", str(tiny_clip), "--engine", "torch", "--batch", "8"]
    environment = os.environ | {"FIELDMARKS_CACHE": str(cache)}
    program = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    with program:
        until = time.monotonic() + 300
        while _rows(cache) < 8 and program.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=300)
    assert program.returncode == 130, err
    assert "Traceback" not in err
    known = _rows(cache)
    assert 8 <= known < IMAGES
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"it has {IMAGES} images" in again.stderr.splitlines()[-1]
    assert _rows(cache) >= IMAGES


def _rows(cache: Path) -> int:
    """Return how many embeddings a cache has, which is whole."""
    for path in cache.rglob("*.sqlite3"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            try:
                (state,) = database.execute("PRAGMA integrity_check").fetchone()
                (count,) = database.execute("SELECT count(*) FROM embeddings").fetchone()
            except sqlite3.OperationalError:  # it is just being made
                return 0
            assert state == "ok"
            return int(count)
    return 0
