"""Classifying kept embeddings by many classes, against the product of matrices alone.

    python tests/benchmarks/many_classes.py [--rows 1000000] [--classes 21000] [--top 5]

The vectors are random, of 512 numbers, and come in parts as from an embedding set; what is timed is
`Head.scores`, which every command uses. The peak is the product of the same matrices, 2,048 rows at a time,
on as many threads; both are CPU seconds of one process, taken in turns. Memory is the peak of the process
after a tenth of the rows and at the end: it must not grow.
"""

import argparse
import resource
import time

import numpy as np

from fieldmarks.classification.head import Head
from fieldmarks.classification.texts import Texts

DIM = 512
PART = 1024  # rows that are scored at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=21_000)
    parser.add_argument("--top", type=int, default=5)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    names = [f"class {number}" for number in range(given.classes)]
    texts = Texts.collect({name: [(name, name)] for name in names})
    head = Head(texts, random.standard_normal((given.classes, DIM), dtype=np.float32), 100.0)
    weights = head.scorer.rows  # (C, D)
    part = random.standard_normal((PART, DIM), dtype=np.float32)
    scoring = product = 0.0
    peaks = []
    head.scores(part[:8], given.top)
    for number in range(-(-given.rows // PART)):
        np.add(part, random.standard_normal((1, DIM), dtype=np.float32), out=part)
        began = time.process_time()
        head.scores(part, given.top)
        scoring += time.process_time() - began
        if number % 10 == 0:
            rows = np.concatenate([part, part])
            began = time.process_time()
            rows @ weights.T
            product += (time.process_time() - began) * 5  # a tenth of the parts, of twice the rows
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    count = len(peaks) * PART
    print(
        f"{count:,} rows × {given.classes:,} classes, top {given.top}: {count / scoring:,.0f} rows a CPU"
        f" second, {product / scoring:.0%} of the matrix peak; peak memory {peaks[len(peaks) // 10]:.0f} MiB"
        f" after a tenth, {peaks[-1]:.0f} MiB at the end"
    )


if __name__ == "__main__":
    main()
