"""Freed memory stays with the process, where that is the command line's and not another program's."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import sys
from fieldmarks.classification.engines.torch import keep_freed_memory
from fieldmarks.hub import own_process
import numpy as np

if "own" in sys.argv:
    own_process()
keep_freed_memory()
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100 * 2**20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_large_block_is_not_asked_for_anew() -> None:
    own, another = (
        int(subprocess.run([sys.executable, "-c", PAGES, word], check=True, capture_output=True).stdout)
        for word in ("own", "another")
    )
    assert own < another / 4
