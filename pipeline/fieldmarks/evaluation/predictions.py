"""Labelled images as one array of embeddings, and predictions: the best class and the rank of the true one.

N images, M texts, C classes, D dimensions; no array of N x C is ever made.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import Aggregation
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.engines import batched
from fieldmarks.classification.head import DIGEST as _DIGEST
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array, Pooling, Scorer, normalize
from fieldmarks.classification.texts import Texts
from fieldmarks.data.check import Equal
from fieldmarks.errors import EvaluationError, ModelError
from fieldmarks.evaluation.results import Indices, Predictions, distinct_of
from fieldmarks.evaluation.stored import Digests, StoredNames, StoredVectors, names_at

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


def predict(
    images: Array | StoredVectors, labels: Indices, scorer: Scorer, seed: int | None = None
) -> Predictions:
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
    of equal bytes, or of equal embeddings, share. Names and embeddings may lie in an embedding set's files.
    """

    names: Sequence[str]
    vectors: Array | StoredVectors
    labels: Indices
    failures: tuple[Failure, ...]
    unlabelled: int = 0
    equal: tuple[Equal, ...] = ()
    repeats: tuple[tuple[int, ...], ...] = ()
    copies: tuple[tuple[int, int] | None, ...] = ()
    digests: Sequence[str] = ()

    @property
    def distinct(self) -> NDArray[np.int64]:
        """The indices of the images, of a group of repeats only the first, (n,)."""
        return distinct_of(len(self.names), self.repeats)


def gather(
    rows: Iterable[Row],
    class_of: Callable[[], Mapping[str, str]],
    classes: Sequence[str],
    copies: IO[bytes] | None = None,
    folder: Path | None = None,
) -> Images:
    """Return the images whose label has a class; their small copies go to the file `copies`.

    `class_of` is asked once all rows have come, as only then all labels may be known. Where the rows are
    those of a `folder` of embeddings, names and vectors stay there. Raises EvaluationError if there is no
    such image, ModelError if embeddings are not of one length.
    """
    names: list[str] = []
    vectors: list[Array] = []
    places: list[tuple[int, int] | None] = []
    rows_of_folder, label_numbers = array("q"), array("i")  # 12 bytes an image, where lists take 80
    numbers: dict[str, int] = {}  # of the labels
    digests = bytearray()
    failures: list[Failure] = []
    unlabelled = 0
    for start, part in enumerate(batched(rows, _PART)):
        whole = []
        for row, (image, label) in enumerate(part, start * _PART):
            if isinstance(image, Failure):
                failures.append(image)
                continue
            if label is None:
                unlabelled += 1
                continue
            label_numbers.append(numbers.setdefault(label, len(numbers)))
            digests += bytes.fromhex(_digest(image))
            if folder is not None:
                rows_of_folder.append(row)
                continue
            names.append(image.image)
            whole.append(image.vector)
            places.append(_kept(image.thumbnail, copies))
        vectors += [stacked(whole)] if whole else []
    known, index = class_of(), {name: number for number, name in enumerate(classes)}
    class_of_number = [index[known[label]] if label in known else -1 for label in numbers]
    owner = np.array([*class_of_number, -1], np.int32)[np.frombuffer(label_numbers, np.int32)]  # (n,)
    chosen = np.flatnonzero(owner >= 0)  # (N,)
    if not len(chosen):
        why = f"none of {unlabelled:,} embeddings has a label" if unlabelled else "no label has a class"
        if failures:
            why = f"{len(failures)} could not be read, {failures[0].image} first: {failures[0].error}"
        raise EvaluationError(f"no usable images: {why}")
    labels = _rows_of(owner, chosen)
    keys = _rows_of(np.frombuffer(digests, np.uint8).reshape(-1, _DIGEST), chosen)  # (N, 16)
    found: tuple[Sequence[str], Array | StoredVectors] = (
        _in_memory(names, vectors, chosen)
        if folder is None
        else _in_files(folder, _rows_of(np.frombuffer(rows_of_folder, np.int64), chosen))
    )
    alike = _alike(keys)
    return Images(
        found[0],
        found[1],
        labels,
        tuple(failures),
        unlabelled,
        _equal(found[0], labels, alike, classes),
        _repeats(alike, labels),
        tuple(places[row] for row in chosen.tolist()) if places else (),
        tuple(key.tobytes().hex() for key in keys) if folder is None else Digests(keys),
    )


def _in_memory(
    names: Sequence[str], vectors: Sequence[Array], chosen: NDArray[np.int64]
) -> tuple[tuple[str, ...], Array]:
    if len({part.shape[1] for part in vectors}) > 1:
        raise ModelError(_DIFFERENT)
    return tuple(names[row] for row in chosen.tolist()), _rows_of(np.concatenate(vectors), chosen)


def _rows_of(every: NDArray[Any], chosen: NDArray[np.int64]) -> NDArray[Any]:
    """Return the chosen rows (N, …) of every image's (n, …), which is no copy where these are all."""
    return every if len(chosen) == len(every) else every[chosen]


def _in_files(folder: Path, rows: NDArray[np.int64]) -> tuple[StoredNames, StoredVectors]:
    vectors = StoredVectors(folder, rows)
    if len(vectors.dims) > 1:
        raise ModelError(_DIFFERENT)
    return StoredNames(folder, rows), vectors


def _alike(digests: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Return the groups of several images with one digest (N, 16), that of the first image first."""
    high, low = np.ascontiguousarray(digests).view(np.uint64).T
    order = np.lexsort((low, high))  # stable: equal images stay in order
    same = np.ones(max(0, len(order) - 1), bool)
    for key in (high, low):
        in_order = key[order]
        same &= in_order[1:] == in_order[:-1]
    ends = np.diff(np.concatenate([[False], same, [False]]).astype(np.int8))
    groups = zip(np.flatnonzero(ends == 1), np.flatnonzero(ends == -1) + 1, strict=True)
    return sorted((order[start:end] for start, end in groups), key=lambda group: int(group[0]))


def _repeats(groups: Sequence[NDArray[np.int64]], labels: Indices) -> tuple[tuple[int, ...], ...]:
    """Return the groups of several equal images of one class, that of the first image first."""
    found = []
    for group in groups:
        of_class: dict[int, list[int]] = {}
        for image, label in zip(group.tolist(), labels[group].tolist(), strict=True):
            of_class.setdefault(label, []).append(image)
        found += [tuple(images) for images in of_class.values() if len(images) > 1]
    return tuple(sorted(found))


def _equal(
    names: Sequence[str], labels: Indices, groups: Sequence[NDArray[np.int64]], classes: Sequence[str]
) -> tuple[Equal, ...]:
    if not groups:
        return ()
    rows = np.concatenate(groups)
    each = zip(names_at(names, rows), (classes[label] for label in labels[rows].tolist()), strict=True)
    return tuple(Equal(*map(tuple, zip(*islice(each, len(group)), strict=True))) for group in groups)


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
    """Return what equal images share, in hexadecimal: the digest of their file, else of their embedding."""
    if image.version:
        return image.version.sha256[: 2 * _DIGEST]
    return hashlib.blake2b(np.ascontiguousarray(image.vector).tobytes(), digest_size=_DIGEST).hexdigest()


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
