"""What texts answer on pictures: each picture's best class and the rank of its true one, a chunk at a time.

N pictures, M texts, C classes, D dimensions; no array of N x C is ever made.

The labelled pictures of an evaluation as one array of embeddings, in one pass over them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fieldmarks.choices import Aggregation
from fieldmarks.classification.embedder import Embedded, Embedder, batched
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array, Pooling, Scorer, normalize
from fieldmarks.classification.sources import Picture
from fieldmarks.classification.texts import Texts
from fieldmarks.data import DataSet
from fieldmarks.errors import EvaluationError, ModelError
from fieldmarks.evaluation.results import Indices, Run

CHUNK = 4_000_000  # scores in memory at a time


def scorer_of(texts: Texts, rows: Array, aggregate: Aggregation) -> Scorer:
    """Return what scores images by texts with their embeddings (M, D)."""
    return Pooling.named(aggregate).scorer(rows, np.array(texts.owner, np.int64), len(texts.classes))


def chunks(count: int, step: int) -> Iterator[slice]:
    """Yield the slices of `count` pictures, `step` at a time."""
    return (slice(at, min(at + step, count)) for at in range(0, count, step))


def answer(images: Array, labels: Indices, scorer: Scorer, seed: int | None = None) -> Run:
    """Return what the texts answer on pictures (N, D) of unit length whose classes are `labels` (N,).

    Of classes that score the same the first is answered, and ranks before the others. Raises ModelError for
    pictures and texts of different lengths.
    """
    if images.shape[1] != scorer.dim:
        raise ModelError(
            f"the pictures' embeddings have {images.shape[1]} numbers and the texts' {scorer.dim}: they"
            " come from different models"
        )
    predicted, rank = np.empty((2, len(images)), np.int32)
    for part in chunks(len(images), max(1, CHUNK // scorer.width)):
        scores = scorer(images[part])  # (n, C)
        predicted[part] = scores.argmax(axis=1)
        rank[part] = ranks(scores, labels[part])
    return Run(predicted, rank, seed)


def ranks(scores: Array, labels: Indices) -> Indices:
    """Return how many classes stand before the true one: (n, C), (n,) -> (n,)."""
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)  # (n, 1)
    before: Indices = np.count_nonzero(scores > own, axis=1).astype(np.int32)
    for row in np.flatnonzero(np.count_nonzero(scores == own, axis=1) > 1):  # a class that scores the same
        before[row] += np.count_nonzero(scores[row, : labels[row]] == own[row])
    return before


_PART = 4096  # pictures that are put together at a time

Labelled = tuple[Embedded | Failure, str | None, int]  # a picture, its label, its place in the data set


@dataclass(frozen=True, slots=True)
class Pictures:
    """N pictures: names, embeddings (N, D) of unit length, class indices (N,), places in the data set.

    `failures` could not be read; of `unlabelled` ones no label is known.
    """

    images: tuple[str, ...]
    vectors: Array
    labels: Indices
    places: tuple[int, ...]
    failures: tuple[Failure, ...]
    unlabelled: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How many pictures of how many are embedded, and the seconds that it has taken."""

    done: int
    failed: int
    total: int
    seconds: float


def embed(dataset: DataSet, class_of: Mapping[str, str], embedder: Embedder) -> Iterator[Labelled]:
    """Yield the embeddings of those pictures whose label has a class, and the failures."""
    waiting: deque[tuple[str | None, int]] = deque()

    def wanted() -> Iterator[Picture | Failure]:
        for place, one in enumerate(dataset):
            if isinstance(one, Failure):
                waiting.append((None, place))
                yield one
            elif one.label in class_of:
                waiting.append((one.label, place))
                yield one.picture

    for result in embedder.images(wanted()):
        yield result, *waiting.popleft()


def told(labelled: Iterable[Labelled], total: int, tell: Callable[[Progress], None]) -> Iterator[Labelled]:
    """Yield what comes, and tell of the progress."""
    started: float | None = None  # the model loads before the first picture comes
    failed = 0
    for number, one in enumerate(labelled, 1):
        started = time.monotonic() if started is None else started
        failed += isinstance(one[0], Failure)
        tell(Progress(number - failed, failed, total, time.monotonic() - started))
        yield one


def gather(labelled: Iterable[Labelled], class_of: Mapping[str, str], classes: Sequence[str]) -> Pictures:
    """Return the pictures whose label has a class, as one array.

    Raises EvaluationError if there is none, ModelError if embeddings are not of one length.
    """
    index = {name: number for number, name in enumerate(classes)}
    images: list[str] = []
    rows: list[Array] = []
    labels: list[int] = []
    places: list[int] = []
    failures: list[Failure] = []
    unlabelled = 0
    for part in batched(labelled, _PART):
        whole = []
        for one, label, place in part:
            if isinstance(one, Failure):
                failures.append(one)
            elif label is not None and label in class_of:
                images.append(one.image)
                whole.append(one.vector)
                labels.append(index[class_of[label]])
                places.append(place)
            else:
                unlabelled += label is None
        rows += [_unit(whole)] if whole else []
    if not rows:
        why = f"none of {unlabelled:,} embeddings has a label" if unlabelled else "no label has a class"
        if failures:
            why = f"{len(failures)} could not be read, {failures[0].image} first: {failures[0].error}"
        raise EvaluationError(f"no picture is left to score: {why}")
    if len({part.shape[1] for part in rows}) > 1:
        raise ModelError("the pictures' embeddings are not of one length: they come from different models")
    vectors = np.concatenate(rows)  # (N, D)
    known = np.array(labels, np.int32)  # (N,)
    return Pictures(tuple(images), vectors, known, tuple(places), tuple(failures), unlabelled)


def _unit(vectors: Sequence[Array]) -> Array:
    try:
        return normalize(np.stack(vectors))
    except ValueError as error:
        raise ModelError(
            "the pictures' embeddings are not of one length: they come from different models"
        ) from error
