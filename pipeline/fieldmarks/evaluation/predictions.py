"""Labelled images as one array of embeddings, and predictions: the best class and the rank of the true one.

N images, M texts, C classes, D dimensions; no array of N x C is ever made.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import Aggregation
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.engines import batched
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array, Pooling, Scorer, normalize
from fieldmarks.classification.texts import Texts
from fieldmarks.data.check import Equal, equal_images
from fieldmarks.errors import EvaluationError, ModelError
from fieldmarks.evaluation.results import Indices, Predictions, distinct_of

CHUNK = 4_000_000  # scores in memory at a time
_PART = 4096  # images that are put together at a time
_DIFFERENT = "the images' embeddings differ in length: they come from different models"

Row = tuple[Embedded | Failure, str | None]  # an image with its label, None where it has none


def scorer_of(texts: Texts, rows: Array, aggregate: Aggregation) -> Scorer:
    """Return the scorer for texts with these embeddings (M, D)."""
    return Pooling.named(aggregate).scorer(rows, np.array(texts.owner, np.int64), len(texts.classes))


def chunks(count: int, step: int) -> Iterator[slice]:
    """Yield the slices of `count` images, `step` at a time."""
    return (slice(at, min(at + step, count)) for at in range(0, count, step))


def predict(images: Array, labels: Indices, scorer: Scorer, seed: int | None = None) -> Predictions:
    """Return the predictions for images (N, D) of unit length whose classes are `labels` (N,).

    Of classes that score the same the first is answered, and ranks before the others. Raises ModelError for
    images and texts of different lengths.
    """
    if images.shape[1] != scorer.dim:
        raise ModelError(
            f"the images' embeddings have {images.shape[1]} numbers and the texts' {scorer.dim}: they"
            " come from different models"
        )
    predicted, rank = np.empty((2, len(images)), np.int32)
    for part in chunks(len(images), max(1, CHUNK // scorer.width)):
        scores = scorer(images[part])  # (n, C)
        predicted[part] = scores.argmax(axis=1)
        rank[part] = ranks(scores, labels[part])
    return Predictions(predicted, rank, seed)


def ranks(scores: Array, labels: Indices) -> Indices:
    """Return how many classes stand before the true one: (n, C), (n,) -> (n,)."""
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)  # (n, 1)
    before: Indices = np.count_nonzero(scores > own, axis=1).astype(np.int32)
    for row in np.flatnonzero(np.count_nonzero(scores == own, axis=1) > 1):  # a class that scores the same
        before[row] += np.count_nonzero(scores[row, : labels[row]] == own[row])
    return before


@dataclass(frozen=True, slots=True)
class Images:
    """N images: names, embeddings (N, D) of unit length, class indices (N,), those of equal bytes.

    `repeats` are the indices of the images of one class that are equal: of files their bytes are, of
    precomputed embeddings these.
    `failures` could not be read; of `unlabelled` ones no label is known. `copies` are the places of the
    images' small copies in a file, (start, length), where such were wanted. `digests` are what images
    of equal bytes, or of equal embeddings, share.
    """

    names: tuple[str, ...]
    vectors: Array
    labels: Indices
    failures: tuple[Failure, ...]
    unlabelled: int = 0
    equal: tuple[Equal, ...] = ()
    repeats: tuple[tuple[int, ...], ...] = ()
    copies: tuple[tuple[int, int] | None, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def distinct(self) -> NDArray[np.int64]:
        """The indices of the images, of a group of repeats only the first, (n,)."""
        return distinct_of(len(self.names), self.repeats)


def gather(
    rows: Iterable[Row],
    class_of: Callable[[], Mapping[str, str]],
    classes: Sequence[str],
    copies: IO[bytes] | None = None,
) -> Images:
    """Return the images whose label has a class, as one array; their small copies go to the file `copies`.

    `class_of` is asked once all rows have come, as only then all labels may be known. Raises EvaluationError
    if there is no such image, ModelError if embeddings are not of one length.
    """
    names: list[str] = []
    vectors: list[Array] = []
    labels: list[str] = []
    digests: list[str] = []
    places: list[tuple[int, int] | None] = []
    failures: list[Failure] = []
    unlabelled = 0
    for part in batched(rows, _PART):
        whole = []
        for image, label in part:
            if isinstance(image, Failure):
                failures.append(image)
            elif label is None:
                unlabelled += 1
            else:
                names.append(image.image)
                whole.append(image.vector)
                labels.append(label)
                digests.append(_digest(image))
                places.append(_kept(image.thumbnail, copies))
        vectors += [stacked(whole)] if whole else []
    known = class_of()
    index = {name: number for number, name in enumerate(classes)}
    chosen = [row for row, label in enumerate(labels) if label in known]
    if not chosen:
        why = f"none of {unlabelled:,} embeddings has a label" if unlabelled else "no label has a class"
        if failures:
            why = f"{len(failures)} could not be read, {failures[0].image} first: {failures[0].error}"
        raise EvaluationError(f"no usable images: {why}")
    if len({part.shape[1] for part in vectors}) > 1:
        raise ModelError(_DIFFERENT)
    every = np.concatenate(vectors)  # (N, D), or more with labels that have no class
    kept = [(names[row], known[labels[row]], digests[row]) for row in chosen]
    groups: dict[tuple[str, str], list[int]] = {}
    for at, (_, name, digest) in enumerate(kept):
        groups.setdefault((name, digest), []).append(at)
    return Images(
        tuple(names[row] for row in chosen),
        every if len(chosen) == len(every) else every[chosen],
        np.array([index[known[labels[row]]] for row in chosen], np.int32),
        tuple(failures),
        unlabelled,
        equal_images(kept),
        tuple(tuple(group) for group in groups.values() if len(group) > 1),
        tuple(places[row] for row in chosen),
        tuple(digests[row] for row in chosen),
    )


def distinct(rows: Iterable[Row]) -> tuple[dict[str, Array], list[Failure]]:
    """Return the embeddings of distinct images by their digests, and those that could not be read."""
    vectors: dict[str, Array] = {}
    failures = []
    for image, _ in rows:
        if isinstance(image, Failure):
            failures.append(image)
        else:
            vectors.setdefault(_digest(image), image.vector)
    return vectors, failures


def _digest(image: Embedded) -> str:
    """Return what equal images share: the digest of their file, else of their embedding."""
    if image.version:
        return image.version.sha256
    return hashlib.blake2b(np.ascontiguousarray(image.vector).tobytes(), digest_size=16).hexdigest()


def _kept(copy: bytes | None, copies: IO[bytes] | None) -> tuple[int, int] | None:
    if copy is None or copies is None:
        return None
    start = copies.tell()
    copies.write(copy)
    return start, len(copy)


def stacked(vectors: Sequence[Array]) -> Array:
    """Return embeddings as one array (n, D) of unit length. Raises ModelError for different lengths."""
    try:
        return normalize(np.stack(vectors))
    except ValueError as error:
        raise ModelError(_DIFFERENT) from error
