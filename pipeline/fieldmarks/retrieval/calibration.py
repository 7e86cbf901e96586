"""When an image shows what a text says: calibrated with texts about nothing, on the same images.

A cosine of text and image means nothing by itself: it depends on the text, the image and the model. So a
query is compared with NULL random-word texts (see texts.py), in two steps.

1. Does the query say anything about these images? Its margin on an image is its cosine less the fifth highest
   of the random texts there, `sure`. Its mean positive margin over all images and its largest one are
   compared with those of the random texts, each left out of what it is compared with; FALSE_ALARMS of them
   pass. A query that does not pass returns nothing.
2. Which images show it? Those on which it scores higher than all but 1 in 40 random texts, `near`.

Descriptors are compared with other descriptors in the second step, see query.py. The thresholds of a set are
computed once, in one pass, and kept beside its manifest.
"""

import hashlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification import arrays
from fieldmarks.classification.embedder import Embedder
from fieldmarks.classification.embedding_manifest import Manifest
from fieldmarks.classification.scoring import Array, normalize
from fieldmarks.classification.texts import random_texts
from fieldmarks.errors import ImageError, StoreError
from fieldmarks.retrieval.scan import Block, Scan, inverse_lengths
from fieldmarks.store import durable

logger = logging.getLogger(__name__)

NULL: Final = 500  # random-word texts
FALSE_ALARMS: Final = 0.035  # of random texts that pass for a query; 5% is promised
_PEAKS: Final = 0.01  # of them by their largest margin alone
SURE: Final = 5  # a margin is the lead over the random text of this rank: 1 in 100
NEAR: Final = 13  # an image is returned where the query beats the random text of this rank: 1 in 40
LIKELY: Final = 125  # a descriptor has to beat the random text of this rank too: 1 in 4
_SAME: Final = 1e-6  # a smaller standard deviation of cosines is rounding
FILE: Final = "calibration.npz"
_VERSION: Final = "1"

Sums = NDArray[np.float64]  # what cosines come to over a set


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A set's thresholds: for each of its N images, and for the margins of a query.

    `inverse` (N,) brings vectors to unit length, and is 0 for those that are not usable.
    """

    inverse: Array
    sure: Array
    near: Array
    likely: Array
    total: float
    peak: float

    def is_about_something(self, scored: "Scored") -> np.ndarray[Any, Any]:
        """Return which queries (T,) say anything about the images, by their margins; see the module."""
        return (scored.total > self.total) | (scored.peak > self.peak)


def calibration(scan: Scan, embedder: Embedder, folder: Path, manifest: Manifest | None) -> Calibration:
    """Return a set's calibration, from its folder where it is kept, else computed and kept there.

    Without a manifest, nothing is written to the folder. Raises ModelError, ImageError.
    """
    key = _key(manifest) if manifest else ""
    if manifest and (kept := _read(folder / FILE, key, scan.rows)) is not None:
        return kept
    if scan.rows > 50_000:
        logger.info("calibrating the cut-off on %s images, once per set …", f"{scan.rows:,}")
    null = normalize(embedder.texts(random_texts(NULL, "calibration")))  # (NULL, D)
    computed = compute(scan, null)
    if manifest:
        _write(folder / FILE, key, computed)
    return computed


def compute(scan: Scan, null: Array) -> Calibration:
    """Return the calibration of a set by the embeddings of random texts (NULL, D), of unit length."""
    inverse, sure, near, likely = (np.zeros(scan.rows, np.float32) for _ in range(4))
    totals, peaks, usable = np.zeros(len(null)), np.full(len(null), -np.inf, np.float32), 0
    turn = Lock()

    def take(block: Block) -> None:
        nonlocal usable
        own = inverse_lengths(block.vectors)  # (rows,)
        scores = _scores(block.vectors, null, own)  # (rows, NULL)
        count = len(null)
        ranks = [count - rank for rank in (LIKELY, NEAR, SURE + 1, SURE)]
        ordered = np.partition(scores, ranks, axis=1)
        inverse[block.rows] = own
        for place, rank in zip((likely, near, sure), (ranks[0], ranks[1], ranks[3]), strict=True):
            place[block.rows] = ordered[:, rank]
        fifth, sixth = ordered[:, ranks[3], None], ordered[:, ranks[2], None]
        lead = (scores - np.where(scores >= fifth, sixth, fifth))[own > 0]  # without the text itself
        with turn:
            usable += len(lead)
            totals[:] += np.maximum(lead, 0).sum(axis=0, dtype=np.float64)
            np.maximum(peaks, lead.max(axis=0, initial=-np.inf), out=peaks)

    scan.each(take)
    peak = float(np.quantile(peaks, 1 - _PEAKS, method="higher")) if usable else np.inf
    rest = totals[peaks <= peak] / max(usable, 1)
    allowed = max(0, int(FALSE_ALARMS * len(null)) - int((peaks > peak).sum()))
    total = float(np.sort(rest)[-1 - allowed])
    return Calibration(inverse, sure, near, likely, total, peak)


def rank_scores(scan: Scan, null: Array, rank: int, inverse: Array) -> Array:
    """Return, for each image (N,), the cosine of this rank, from 1, among those of the null (M, D)."""
    found = np.zeros(scan.rows, np.float32)

    def take(block: Block) -> None:
        scores = _scores(block.vectors, null, inverse[block.rows])
        found[block.rows] = np.partition(scores, len(null) - rank, axis=1)[:, len(null) - rank]

    scan.each(take)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The cosines (T, N) of T queries with a set's images, 0 for images that are not usable.

    Of each query, over the usable images: the cosines' mean and standard deviation (T,), their mean positive
    margin (T,) over `sure`, and their largest margin (T,), -inf without any image.
    """

    cosines: Array
    mean: Sums
    deviation: Sums
    total: Sums
    peak: Sums

    def standardized(self, query: int) -> Array:
        """Return a query's scores (N,) as z-scores over the usable images, 0 where they do not differ."""
        return z_scores(self.cosines[query], float(self.mean[query]), float(self.deviation[query]))


def score(scan: Scan, queries: Array, calibrated: Calibration) -> Scored:
    """Return the cosines of a set's images with queries (T, D), and what they come to over the set.

    A block's sums are taken while its cosines are in the processor's cache.
    """
    cosines = np.zeros((len(queries), scan.rows), np.float32)
    tallies = dict[int, tuple[int, Sums, Sums, Sums, Sums]]()

    def take(block: Block) -> None:
        inverse, sure = calibrated.inverse[block.rows], calibrated.sure[block.rows]
        scores = np.ascontiguousarray(_scores(block.vectors, queries, inverse).T)  # (T, rows)
        cosines[:, block.rows] = scores
        if not inverse.all():
            scores, sure = scores[:, inverse > 0], sure[inverse > 0]
        precise, lead = scores.astype(np.float64), scores - sure
        peak = lead.max(axis=1, initial=-np.inf)
        total = np.maximum(lead, 0, out=lead).sum(axis=1, dtype=np.float64)
        squares = np.einsum("tn,tn->t", precise, precise)
        tallies[block.start] = (len(sure), precise.sum(axis=1), squares, total, peak)

    scan.each(take)
    if not tallies:
        nothing = np.zeros(len(queries))
        return Scored(cosines, nothing, nothing, nothing, nothing - np.inf)
    counts, *sums = (np.array(part) for part in zip(*(tallies[at] for at in sorted(tallies)), strict=True))
    count = max(1, int(counts.sum()))
    mean, squares, total = (part.sum(axis=0) / count for part in sums[:3])  # (T,), added in the rows' order
    return Scored(cosines, mean, np.sqrt(np.maximum(squares - mean**2, 0)), total, sums[3].max(axis=0))


def z_scores(scores: Array, mean: float, deviation: float) -> Array:
    """Return scores (N,) in standard deviations from their mean, 0 where they do not differ."""
    if deviation <= _SAME:
        return np.zeros_like(scores)
    found: Array = scores - np.float32(mean)
    found /= np.float32(deviation)
    return found


def _scores(vectors: Array, queries: Array, inverse: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        products = vectors @ queries.T  # (rows, T)
        scores: Array = products * inverse[:, None]
    scores[inverse == 0] = 0
    return scores


def _key(manifest: Manifest) -> str:
    parts = [_VERSION, str(manifest.fingerprint), *random_texts(NULL, "calibration")]
    parts += [f"{shard.sha256} {shard.rows}" for shard in manifest.shards]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(path: Path, key: str, rows: int) -> Calibration | None:
    """Return what a file holds if it is of this key, else None."""
    if not path.exists():
        return None
    try:
        with arrays.Archive(path) as archive:
            stored = {name: archive.get(name) for name in (*_ARRAYS, "key", "cutoffs")}
            values = {name: np.concatenate(list(of.parts(2**24))) for name, of in stored.items() if of}
        if len(values) < len(stored) or bytes(values["key"][0]).decode("ascii", "replace") != key:
            return None
        if any(values[name].shape != (rows,) or values[name].dtype != np.float32 for name in _ARRAYS):
            return None
        total, peak = values["cutoffs"].tolist()
        inverse, sure, near, likely = (values[name] for name in _ARRAYS)
        return Calibration(inverse, sure, near, likely, total, peak)
    except (ImageError, ValueError, IndexError) as error:
        logger.debug("%s is recomputed: %s", path, error)
        return None


_ARRAYS: Final = ("inverse", "sure", "near", "likely")


def _write(path: Path, key: str, computed: Calibration) -> None:
    content = io.BytesIO()
    fields = {name: getattr(computed, name) for name in _ARRAYS}
    cutoffs = np.array([computed.total, computed.peak])
    np.savez(content, key=np.array([key.encode()]), cutoffs=cutoffs, **fields)
    try:
        durable.replace(path, [content.getbuffer().tobytes()])
    except StoreError as error:
        logger.info("the calibration is not kept: %s", error)
