"""How work is cut into passes: batches of images, and texts by length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from fieldmarks.classification.scoring import Array

Out = TypeVar("Out")


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield passes over texts, each a list of their numbers: neighbours in length, at least one of them.

    Padded to its longest text, a pass has at most `budget` tokens.
    """
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[row] > budget:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def encoded_by_length(
    texts: Sequence[str], lengths: Sequence[int], budget: int, encode: Callable[[list[str]], Array]
) -> Array:
    """Return the embeddings (M, D) of texts that are encoded in passes of neighbours in length."""
    passes = list(by_length(lengths, budget))
    embeddings = np.concatenate([encode([texts[row] for row in rows]) for rows in passes])
    embeddings[np.concatenate(passes)] = embeddings.copy()
    return embeddings


def batched(items: Iterable[Out], size: int) -> Iterator[list[Out]]:
    """Yield lists of `size` items, the last one perhaps shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
