"""Shots: the labelled images that are learned from, some of each class, each image once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.head import DIGEST, Head
from fieldmarks.classification.scoring import Array, Indices
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.predictions import Images
from fieldmarks.text import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Shots:
    """n images: embeddings (n, D) of unit length, class indices (n,), and digests (n, 16)."""

    vectors: Array
    labels: Indices
    digests: NDArray[np.uint8]
    fewest: int  # images of a class
    most: int

    def take(self, rows: NDArray[np.int64]) -> "Shots":
        """Return some of the images, in this order."""
        return Shots(self.vectors[rows], self.labels[rows], self.digests[rows], self.fewest, self.most)


def draw(images: Images, classes: Sequence[str], per_class: int | None, seed: int) -> Shots:
    """Return `per_class` distinct images of each class, drawn by `seed`; by default all of them.

    A class with fewer gives those that it has, and is named. Raises EvaluationError for a single class, a
    class without images, and images that have two classes.
    """
    if len(classes) < 2:
        raise EvaluationError(f"there is one class, {listed(classes)}: learning needs at least two")
    check_labels(images, classes)
    labels = images.labels.astype(np.int64)
    if repeats := len(images.names) - len(images.distinct):
        logger.warning("%s left out: equal to another of the class", counted(repeats, "image"))
    own = [images.distinct[labels[images.distinct] == at] for at in range(len(classes))]
    if without := [name for name, rows in zip(classes, own, strict=True) if not len(rows)]:
        raise EvaluationError(
            f"{counted(len(without), 'class')} without images: {listed(without)}: learning needs images of"
            " every class; add some, or remove the class"
        )
    few = [name for name, rows in zip(classes, own, strict=True) if len(rows) < (per_class or 0)]
    if few:
        logger.warning("fewer than %d images: %s; all of them are used", per_class, listed(few))
    return taken(images, [order[:per_class] for order in orders(own, seed)])


def orders(own: Sequence[Indices], seed: int) -> list[Indices]:
    """Return each class's images in random order; the first are the shots, so that fewer are part of more."""
    random = np.random.default_rng(seed)
    return [random.permutation(rows) for rows in own]


def taken(images: Images, parts: Sequence[Indices]) -> Shots:
    """Return some images of each class as shots, in the images' order."""
    rows = np.concatenate([np.sort(part) for part in parts])
    return Shots(
        images.vectors[rows],
        images.labels[rows].astype(np.int64),
        digests_of([images.digests[row] for row in rows.tolist()]),
        min(map(len, parts)),
        max(map(len, parts)),
    )


def fresh(head: Head, images: Images) -> Indices:
    """Return the distinct images that a saved classifier was not made from."""
    if head.digests is None:
        return images.distinct
    known = set(head.digests.view(f"V{DIGEST}").ravel().tolist())
    rows = [
        row for row in images.distinct.tolist() if bytes.fromhex(images.digests[row])[:DIGEST] not in known
    ]
    if left := len(images.distinct) - len(rows):
        logger.warning("%s left out: the classifier was made from them", counted(left, "image"))
    return np.array(rows, np.int64)


def digests_of(digests: Sequence[str]) -> NDArray[np.uint8]:
    """Return digests in hexadecimal as bytes, (n, 16)."""
    data = b"".join(bytes.fromhex(digest)[:DIGEST] for digest in digests)
    return np.frombuffer(data, np.uint8).reshape(-1, DIGEST)


def check_labels(images: Images, classes: Sequence[str]) -> None:
    """Raise EvaluationError for an image that stands under two classes."""
    label_of: dict[str, int] = {}
    for name, digest, label in zip(images.names, images.digests, images.labels.tolist(), strict=True):
        if label_of.setdefault(digest, label) != label:
            raise EvaluationError(
                f"{name} has the label {classes[label]!r}, and an equal image has"
                f" {classes[label_of[digest]]!r}: remove one of them"
            )
