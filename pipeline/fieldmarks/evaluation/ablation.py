"""What each descriptor brings: the figures with it minus those without it, from embeddings that are there.

Leaving one descriptor out changes the scores of its own class alone. So each picture keeps the best and the
second best class besides its own, and each descriptor adds one column of scores: its class without it. What
comes out is what classifying anew without the descriptor would give. A class with one descriptor is read by
the prompt of its name without it, as a store's class without descriptors is.

N pictures, M texts, C classes, D dimensions; chunks of pictures bound the memory of scores, and what is kept
of a picture is a few numbers for each text that matters to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import Aggregation
from fieldmarks.classification.scoring import Array, Pooling
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.predictions import CHUNK, chunks
from fieldmarks.evaluation.results import Changes, Effect, Indices

ALONE: Final = "with a single class no descriptor can help or hurt"

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ablated:
    """A classifier's texts with their embeddings (M, D), and those of the names' prompts (C, D)."""

    texts: Texts
    rows: Array
    names: Array
    aggregate: Aggregation
    scale: float


def effects(images: Array, labels: Indices, ablated: Ablated) -> tuple[Effect, ...]:
    """Return each text's effect on pictures (N, D) of unit length with their classes (N,), the worst first.

    Worst is what costs most right answers, then what costs most margin: that of its class's pictures and that
    of the others, each as a mean, so that few pictures of one class weigh as much as all others. Raises
    EvaluationError for a single class, which no picture can be taken from.
    """
    texts = ablated.texts
    classes = len(texts.classes)
    if classes < 2:
        raise EvaluationError(ALONE)
    owner, pooling = np.array(texts.owner, np.int64), Pooling.named(ablated.aggregate)
    whole = pooling.scorer(ablated.rows, owner, classes)
    without = pooling.without_each(ablated.rows, owner, ablated.names)
    parts = [
        _lost(whole(images[part]), without(images[part]), labels[part], owner, part.start)
        for part in chunks(len(images), max(1, CHUNK // max(classes, 2 * without.width)))
    ]
    changes = _by_text(parts, len(texts.texts), ablated.scale)
    pictures = np.bincount(labels, minlength=classes)[owner].tolist()  # (M,)
    found = (_effect(texts, row, on, labels, pictures[row]) for row, on in enumerate(changes))
    return tuple(sorted(found, key=lambda one: (one.effect, one.margin + one.others_margin)))


def _effect(texts: Texts, row: int, on: Changes, labels: Indices, pictures: int) -> Effect:
    """Return the means of what a text changes; its class has so many `pictures`."""
    owner, descriptor = texts.owner[row], texts.descriptors[row]
    own = labels[on.picture] == owner
    margin, others = (float(on.margin[which].sum(dtype=np.float64)) for which in (own, ~own))
    return Effect(
        texts.classes[owner],
        descriptor,
        int(on.right.sum()) / len(labels),
        margin / max(pictures, 1),
        others / max(len(labels) - pictures, 1),
        pictures,
        on,
    )


class _Lost(NamedTuple):
    """What some pairs of a picture and a left-out text lose; of all other pairs, nothing is lost."""

    text: NDArray[np.int64]
    picture: NDArray[np.int64]
    right: NDArray[np.int64]  # 1, 0 or -1 right answer
    margin: Array


def _by_text(parts: Sequence[_Lost], texts: int, scale: float) -> list[Changes]:
    """Return what each of M texts changes, with the pictures in order."""
    lost = _Lost(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(lost.text, kind="stable")
    ends = np.searchsorted(lost.text[order], np.arange(1, texts))
    columns = (lost.picture.astype(np.int32), lost.right.astype(np.int32), scale * lost.margin)
    each = (np.split(column[order], ends) for column in columns)
    return [Changes(*one) for one in zip(*each, strict=True)]


def _lost(scores: Array, without: Array, labels: Indices, owner: NDArray[np.int64], start: int) -> _Lost:
    """Return what pictures lose without each text, from scores (n, C) and those without (n, M).

    The first picture has index `start`. Of equal scores the class that comes first wins, as argmax has it.
    """
    label = labels.astype(np.int64)  # (n,)
    true, rivals = _taken(scores, label)
    first = rivals.argmax(axis=1)  # (n,), the best class besides the true one
    best, rivals = _taken(rivals, first)
    second = rivals.argmax(axis=1)
    next_best, _ = _taken(rivals, second)
    # A class that is neither the picture's own nor its best rival, before or after, changes nothing.
    matters = (owner == label[:, None]) | (owner == first[:, None]) | (without >= best[:, None])
    picture, text = np.nonzero(matters)
    now, changing = without[picture, text], owner[text]

    own = label[picture] == changing
    stays = first[picture] != changing  # the best rival is not the class that changes
    rival = np.where(stays, best[picture], next_best[picture])
    place = np.where(stays, first[picture], second[picture])
    true_now = np.where(own, now, true[picture])
    rival_now = np.where(own, np.float32(-np.inf), now)
    wrong = _beaten(true_now, label[picture], rival, place) | _beaten(
        true_now, label[picture], rival_now, changing
    )
    was_wrong = _beaten(true, label, best, first)[picture]
    margin = (true - best)[picture] - (true_now - np.maximum(rival, rival_now))
    return _Lost(text, picture + start, wrong.astype(np.int64) - was_wrong, margin)


def _taken(scores: Array, columns: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return each row's score in its column, (n,), and the scores with that column out of the running."""
    rest = scores.copy()
    np.put_along_axis(rest, columns[:, None], -np.inf, axis=1)
    return np.take_along_axis(scores, columns[:, None], axis=1)[:, 0], rest


def _beaten(true: Array, label: NDArray[np.int64], rival: Array, place: NDArray[np.int64]) -> Bools:
    beaten: Bools = (rival > true) | ((rival == true) & (place < label))
    return beaten
