"""A full disk under a set of embeddings: one line, what is complete is kept, and the rerun does the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.scale import ray_jobs
from tests.scale.archives import write_tars

TARS, IMAGES = 12, 16
# In a mount namespace of its own, so that the small disk is gone with the script.
SCRIPT = """
mkdir disk && mount -t tmpfs -o size=120k tmpfs disk || exit 77
"$@" --out disk/set; echo "exit $?"
ls disk/set/metadata | wc -l
mount -o remount,size=64m disk
"$@" --out disk/set; echo "exit $?"
cp -r disk/set kept
"""


@pytest.mark.slow
def test_a_full_disk_costs_the_block_that_was_being_written(demo_clip: Path, own_folder: Path) -> None:
    write_tars(Path("tars"), TARS, IMAGES)
    command = [sys.executable, "-m", "fieldmarks", "embed", "tars", "--clip", str(demo_clip), *ray_jobs.EXACT]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("a file system cannot be mounted here")
    assert done.stdout.split()[:2] == ["exit", "1"]
    complete = int(done.stdout.split()[2])
    assert 0 < complete < TARS
    assert done.stdout.split()[3:] == ["exit", "0"], done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "No space left" in line]
    assert told.startswith("Error: ")
    assert told.endswith("free some space and run it again")
    assert f"({complete * IMAGES} already there)" in done.stderr.splitlines()[-1]

    whole = subprocess.run(
        [*command, "--out", "whole"], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert whole.returncode == 3
    assert ray_jobs.contents(Path("kept")) == ray_jobs.contents(Path("whole"))
