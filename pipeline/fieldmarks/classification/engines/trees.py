"""Texts as trees, in which beginnings that they share are there, and computed, once.

Attention is causal in CLIP's text encoder, so a token's state depends on those before it only, and texts form
a tree of which each branch is a sequence:

    red fox        tokens      <s> red fox </s> deer </s>
    red deer       positions    0   1   2   3    2    3      each attends to itself and its ancestors

A row holds such a tree, a pass many rows of about the same length, which leaves little padding as well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.engines.checkpoint import ANY_END
from fieldmarks.classification.scoring import Array

ROW: Final = 96  # tokens of a row of texts, of which longer ones have a row of their own
STEP: Final = (
    16  # rows are padded to a multiple: attention over other numbers takes up to three times as long
)


def encoded_as_trees(
    texts: Iterable[Sequence[int]], budget: int, encode: Callable[[Mapping[str, NDArray[Any]]], Array]
) -> Array:
    """Return the embeddings (M, D) of texts, given as their tokens, in passes of at most `budget` tokens."""
    parts: list[Array] = []
    order: list[int] = []
    for batch in batches_of(list(trees(list(texts))), budget):
        parts.append(encode(inputs_of(batch)))
        order += [row for tree in batch for row in tree.rows]
    embeddings = np.concatenate(parts)  # (M, D), in the order of the trees
    embeddings[order] = embeddings.copy()
    return embeddings


@dataclass(frozen=True, slots=True)
class Tree:
    """Texts that share beginnings: the tokens once each, parents before children, with their depth.

    `ends` are the last tokens of the texts `rows`.
    """

    ids: list[int]
    depths: list[int]
    parents: list[int]  # -1 for none
    ends: list[int]
    rows: list[int]


def read_tokens(ids: NDArray[np.int64], end: int) -> list[list[int]]:
    """Return of texts' tokens (M, T) what counts: each row up to the token at which CLIP reads it."""
    places = ids.argmax(axis=1) if end == ANY_END else (ids == end).argmax(axis=1)
    return [row[: place + 1] for row, place in zip(ids.tolist(), places.tolist(), strict=True)]


def trees(texts: Sequence[Sequence[int]], length: int = ROW) -> Iterator[Tree]:
    """Yield trees of at most `length` tokens that hold all texts; a longer text is a tree by itself.

    In alphabetical order neighbours share the longest beginnings, so a tree takes texts while it has room.
    """
    tree = Tree([], [], [], [], [])
    path: list[int] = []  # the last text's tokens, as places in the tree
    before: Sequence[int] = ()
    for row in sorted(range(len(texts)), key=lambda row: list(texts[row])):
        text = texts[row]
        shared = next(
            (at for at, pair in enumerate(zip(before, text, strict=False)) if pair[0] != pair[1]), None
        )
        shared = min(len(before), len(text)) if shared is None else shared
        if tree.ids and len(tree.ids) + len(text) - shared > length:
            yield tree
            tree, path, shared = Tree([], [], [], [], []), [], 0
        path = path[:shared]
        for depth in range(shared, len(text)):
            tree.parents.append(path[-1] if path else -1)
            path.append(len(tree.ids))
            tree.ids.append(text[depth])
            tree.depths.append(depth)
        tree.ends.append(path[-1])
        tree.rows.append(row)
        before = text
    if tree.ids:
        yield tree


def inputs_of(batch: Sequence[Tree]) -> dict[str, NDArray[Any]]:
    """Return what a tower of texts reads of trees; texts come out in the order of their `rows`.

    For B trees of at most T tokens, E of them ends: `ids` and `positions` (B, T); `mask` (B, T, T), which is
    true where the first token attends to the second; `at` (B, E), where texts end; and `which` (M,) of B * E
    are the ends of texts and no padding.
    """
    length, most = max(map(_padded, batch)), max(len(tree.ends) for tree in batch)
    ids, positions = (np.zeros((len(batch), length), np.int64) for _ in range(2))
    mask = np.zeros((len(batch), length, length), bool)
    mask[:, range(length), range(length)] = True  # padding attends to itself
    at = np.zeros((len(batch), most), np.int64)
    for number, tree in enumerate(batch):
        ids[number, : len(tree.ids)], positions[number, : len(tree.ids)] = tree.ids, tree.depths
        for place, parent in enumerate(tree.parents):
            if parent >= 0:
                mask[number, place] |= mask[number, parent]
        at[number, : len(tree.ends)] = tree.ends
    which = [number * most + place for number, tree in enumerate(batch) for place in range(len(tree.ends))]
    return {"ids": ids, "positions": positions, "mask": mask, "at": at, "which": np.array(which, np.int64)}


def batches_of(all_trees: Sequence[Tree], budget: int) -> Iterator[list[Tree]]:
    """Yield batches of trees of similar length that have at most `budget` tokens, padding included."""
    batch: list[Tree] = []
    for tree in sorted(all_trees, key=lambda tree: len(tree.ids)):
        if batch and (len(batch) + 1) * _padded(tree) > budget:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def _padded(tree: Tree) -> int:
    """Return how many tokens a tree's row has."""
    return -(-len(tree.ids) // STEP) * STEP
