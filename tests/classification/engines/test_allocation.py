"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import sys
from fieldmarks.classification.engines.torch import keep_freed_memory
import numpy as np

if "keep" in sys.argv:
    keep_freed_memory()
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100 * 2**20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_large_block_is_not_asked_for_anew() -> None:
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", PAGES, word], check=True, capture_output=True).stdout)
        for word in ("keep", "usual")
    )
    assert kept < usual / 4
