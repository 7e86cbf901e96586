"""Leave-one-out ablation: the figures with a descriptor minus those without it, from existing embeddings.

Leaving one descriptor out changes the scores of its own class alone. So each image keeps the best and the
second best class besides its own, and each descriptor adds one column of scores: its class without it. The
result is what classifying again without the descriptor would give. A class with one descriptor falls back to
the text of its name, as a store's class without descriptors does.

N images, M texts, C classes, D dimensions; chunks of images bound the memory of scores, and what is held of
an image is a few numbers for each text that matters to it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import Aggregation
from fieldmarks.classification.scoring import Array, Pooling
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.predictions import CHUNK, chunks
from fieldmarks.evaluation.results import Changes, DescriptorEffect, Indices
from fieldmarks.evaluation.stored import StoredVectors

ALONE: Final = "with a single class no descriptor can help or hurt"

Bools = NDArray[np.bool_]


def effects(
    images: Array | StoredVectors,
    labels: Indices,
    texts: Texts,
    rows: Array,
    names: Array,
    aggregate: Aggregation,
    scale: float,
) -> tuple[DescriptorEffect, ...]:
    """Return each text's effect on images (N, D) of unit length with their classes (N,), the worst first.

    `rows` (M, D) are the texts' embeddings, `names` (C, D) those of the classes without descriptors, `scale`
    is the factor of the cosines. Worst is what costs most right answers, then what costs most margin: that of
    its class's images and that of the others, each as a mean, so that few images of one class weigh as much
    as all others. Raises EvaluationError for a single class, from which no image can be taken.
    """
    classes = len(texts.classes)
    if classes < 2:
        raise EvaluationError(ALONE)
    owner, pooling = np.array(texts.owner, np.int64), Pooling.named(aggregate)
    whole = pooling.scorer(rows, owner, classes)
    without = pooling.without_each(rows, owner, names)
    parts = [
        _lost(whole(images[part]), without(images[part]), labels[part], owner, part.start)
        for part in chunks(len(images), max(1, CHUNK // max(classes, 2 * without.width)))
    ]
    changes = _by_text(parts, len(texts.texts), scale)
    counts = np.bincount(labels, minlength=classes)[owner].tolist()  # (M,)
    each = (_effect(texts, row, on, labels, counts[row]) for row, on in enumerate(changes))
    return tuple(sorted(each, key=benefit))


def benefit(effect: DescriptorEffect) -> tuple[float, float]:
    """Return what descriptors are sorted by: the right answers that one gains, then both margins."""
    return effect.effect, effect.margin + effect.others_margin


def _effect(texts: Texts, row: int, on: Changes, labels: Indices, count: int) -> DescriptorEffect:
    """Return the means of what a text changes; its class has `count` images."""
    owner, descriptor = texts.owner[row], texts.descriptors[row]
    own = labels[on.image] == owner
    margin, others = (float(on.margin[which].sum(dtype=np.float64)) for which in (own, ~own))
    return DescriptorEffect(
        texts.classes[owner],
        descriptor,
        int(on.right.sum()) / len(labels),
        margin / max(count, 1),
        others / max(len(labels) - count, 1),
        count,
        on,
    )


class _Lost(NamedTuple):
    """What some pairs of a image and a left-out text lose; of all other pairs, nothing is lost."""

    text: NDArray[np.int64]
    image: NDArray[np.int64]
    right: NDArray[np.int64]  # 1, 0 or -1 right answer
    margin: Array


def _by_text(parts: Sequence[_Lost], texts: int, scale: float) -> list[Changes]:
    """Return what each of M texts changes, with the images in order."""
    lost = _Lost(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(lost.text, kind="stable")
    ends = np.searchsorted(lost.text[order], np.arange(1, texts))
    every = (lost.image.astype(np.int32), lost.right.astype(np.int32), scale * lost.margin)
    each = (np.split(column[order], ends) for column in every)
    return [Changes(*columns) for columns in zip(*each, strict=True)]


def _lost(scores: Array, without: Array, labels: Indices, owner: NDArray[np.int64], start: int) -> _Lost:
    """Return what images lose without each text, from scores (n, C) and those without (n, M).

    The first image has index `start`. Of equal scores the class that comes first wins, as argmax has it.
    """
    label = labels.astype(np.int64)  # (n,)
    true, rivals = _taken(scores, label)
    first = rivals.argmax(axis=1)  # (n,), the best class besides the true one
    best, rivals = _taken(rivals, first)
    second = rivals.argmax(axis=1)
    next_best, _ = _taken(rivals, second)
    # A class that is neither the image's own nor its best rival, before or after, changes nothing.
    matters = (owner == label[:, None]) | (owner == first[:, None]) | (without >= best[:, None])
    image, text = np.nonzero(matters)
    now, changing = without[image, text], owner[text]

    own = label[image] == changing
    stays = first[image] != changing  # the best rival is not the class that changes
    rival = np.where(stays, best[image], next_best[image])
    place = np.where(stays, first[image], second[image])
    true_now = np.where(own, now, true[image])
    rival_now = np.where(own, np.float32(-np.inf), now)
    wrong = _beaten(true_now, label[image], rival, place) | _beaten(
        true_now, label[image], rival_now, changing
    )
    was_wrong = _beaten(true, label, best, first)[image]
    margin = (true - best)[image] - (true_now - np.maximum(rival, rival_now))
    return _Lost(text, image + start, wrong.astype(np.int64) - was_wrong, margin)


def _taken(scores: Array, columns: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return each row's score in its column, (n,), and the scores with that column out of the running."""
    rest = scores.copy()
    np.put_along_axis(rest, columns[:, None], -np.inf, axis=1)
    return np.take_along_axis(scores, columns[:, None], axis=1)[:, 0], rest


def _beaten(true: Array, label: NDArray[np.int64], rival: Array, place: NDArray[np.int64]) -> Bools:
    beaten: Bools = (rival > true) | ((rival == true) & (place < label))
    return beaten
