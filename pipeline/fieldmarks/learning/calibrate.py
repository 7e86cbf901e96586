"""Calibrating: temperature, thresholds that reject and a conformal quantile, kept in a classifier file.

A calibrated classifier's metadata has "calibrated", a JSON object:

    {"at", "fieldmarks", "data", "images", "false_rejections", "coverage", "temperature",
     "misclassified": images, "pooled": classes with the threshold of all images,
     "error_before", "error_after": expected calibration errors}

without labels {"at", "fieldmarks", "data", "images", "unlabelled": true, "threshold", "under": images that
are under it}.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks import __version__
from fieldmarks.choices import Aggregation, Decode, Device, DType, Engine, Preset, checks_keywords
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Clip
from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Failure, Progress, reporting
from fieldmarks.classification.scoring import Array, Indices, probabilities
from fieldmarks.classification.sources import find, quiet_pillow
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError, ModelError, UsageError
from fieldmarks.evaluation.evaluate import dataset_spec
from fieldmarks.evaluation.predictions import distinct, stacked
from fieldmarks.learning.calibration import (
    FEW_ERRORS,
    FEWEST,
    NEVER,
    coldest,
    fewest_for,
    quantile,
    reliability,
    temperature,
    thresholds,
)
from fieldmarks.learning.learn import check_source, open_classifier, read_images
from fieldmarks.learning.shots import check_labels, digests_of, fresh
from fieldmarks.learning.unlabelled import LEVEL, best_scores, threshold
from fieldmarks.store import Store
from fieldmarks.text import counted

FALSE_REJECTIONS: Final = 0.05  # of a class's own images, unless asked otherwise
COVERAGE: Final = 0.95  # of sets of labels, unless asked otherwise


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A calibrated classifier, and what it was calibrated on.

    calibrated = fm.calibrate("photos", classifier="frogs.safetensors", false_rejections=0.05)
    calibrated.save("frogs.safetensors")
    calibrated.classifier.predict("a.jpg", abstain=True).label
    """

    classifier: Classifier
    images: int
    notes: tuple[str, ...]  # what the closing line says
    failures: tuple[Failure, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the classifier as a file that needs neither the store nor the images. Raises ModelError."""
        self.classifier.save(path)

    def __repr__(self) -> str:
        return f"<Calibrated on {counted(self.images, 'image')}: {'; '.join(self.notes)}>"

    def to_dict(self) -> dict[str, Any]:
        """Return what was calibrated on which images as plain data."""
        plain: dict[str, Any] = json.loads(self.classifier.head.metadata["calibrated"])
        return plain


@checks_keywords
def calibrate(
    dataset: str | Path | None = None,
    store: Store | str | Path | None = None,
    *,
    classifier: str | Path | None = None,
    false_rejections: float = FALSE_REJECTIONS,
    coverage: float = COVERAGE,
    unlabelled: str | Path | None = None,
    clip: Clip | None = None,
    preset: Preset = "article",
    aggregate: Aggregation | None = None,
    text: str | None = None,
    with_name: bool = False,
    concept: str | None = None,
    embeddings: str | Path | None = None,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    streaming: bool = False,
    aliases: str | Path | None = None,
    allow_missing: bool = False,
    device: Device = "auto",
    dtype: DType = "auto",
    engine: Engine = "auto",
    decode: Decode = "auto",
    batch: int | None = None,
    cache: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Calibrated:
    """Fit a classifier's temperature, thresholds for rejecting and conformal quantile to labelled images.

        calibrated = fm.calibrate("photos", classifier="frogs.safetensors")
        print(calibrated)
        calibrated.save("calibrated.safetensors")

    - `dataset`, or `embeddings` with labels, and how they are read: as for `evaluate`. They must be images of
      the kind that will be classified, and not those that weights were learned from, which are left out.
    - `false_rejections`: the share of a class's own images that may be taken for none of the classes.
    - `coverage`: the share of images whose set of labels has to hold the true one.
    - `unlabelled`: images without labels, instead of a data set. They give one threshold only, the score that
      classes of random words reach on few of them; it is weaker, as `unlabelled.py` explains.

    Raises UsageError for an option that is wrong or has no effect, EvaluationError for images that cannot be
    calibrated on; also as `learn`.
    """
    check_source(store, classifier, (preset != "article", aggregate, text, with_name, concept), "calibrating")
    for name, value in (("false_rejections", false_rejections), ("coverage", coverage)):
        if not 0 < value < 1:
            raise UsageError(f"{name}: expected a share between 0 and 1, found {value}")
    if unlabelled is not None:
        _refuse_with_unlabelled(
            dataset=dataset,
            embeddings=embeddings,
            false_rejections=false_rejections != FALSE_REJECTIONS,
            coverage=coverage != COVERAGE,
            split=split,
            image_column=image_column,
            label_column=label_column,
            limit=limit,
            streaming=streaming,
            aliases=aliases,
            allow_missing=allow_missing,
        )
    model: dict[str, Any] = {
        "clip": clip, "device": device, "dtype": dtype, "engine": engine, "decode": decode, "batch": batch,
        "cache": cache,
    }  # fmt: skip
    texts = {"preset": preset, "aggregate": aggregate, "text": text, "with_name": with_name}
    texts |= {"concept": concept}
    if unlabelled is not None:
        with quiet_pillow():
            opened, _ = open_classifier(store, classifier, model, texts)
            return _without_labels(opened, str(unlabelled), store is not None, progress)
    spec = dataset_spec(
        dataset,
        embeddings=embeddings,
        split=split,
        image_column=image_column,
        label_column=label_column,
        limit=limit,
        streaming=streaming,
        aliases=aliases,
        allow_missing=allow_missing,
    )
    with quiet_pillow():
        opened, candidate = open_classifier(store, classifier, model, texts, spec.embeddings)
        images = read_images(spec, opened, candidate, progress)
    rows = fresh(opened.head, images)
    if not len(rows):
        raise EvaluationError(
            "no images are left to calibrate on: use others than the classifier was made from"
        )
    if len(opened.classes) < 2:
        raise EvaluationError(f"there is one class, {listed(opened.classes)}: calibrating needs at least two")
    check_labels(images, opened.classes)
    vectors, labels = images.vectors[rows], images.labels[rows].astype(np.int64)
    head, record, notes = calibrated_head(
        opened.head, vectors, labels, false_rejections=false_rejections, coverage=coverage
    )
    used = [images.digests[row] for row in rows.tolist()]
    kept = _kept(opened, head, record, str(spec.spec or spec.embeddings), used, store is not None)
    return Calibrated(kept, len(rows), tuple(notes), images.failures)


def _refuse_with_unlabelled(**of_labels: object) -> None:
    """Raise UsageError for the first of the arguments that is given: only labels need it."""
    if idle := next((name for name, value in of_labels.items() if value), None):
        raise UsageError(f"{idle} has no effect on images without labels: leave it out")


def _kept(
    opened: Classifier, head: Head, record: dict[str, Any], data: str, digests: Sequence[str], is_new: bool
) -> Classifier:
    """Return the classifier of a calibrated head, with the record of it and the digests of the images."""
    record |= {"at": datetime.now(UTC).isoformat(timespec="seconds"), "fieldmarks": __version__, "data": data}
    metadata = {key: value for key, value in head.metadata.items() if key not in ("created", "calibrated")}
    metadata |= {"calibrated": json.dumps(record)}
    if is_new:
        metadata["fingerprint"] = opened.embedder.encoder.identity
    used = digests_of(digests)
    if head.digests is not None:
        used = np.concatenate([head.digests, used])
    return Classifier.of_head(replace(head, metadata=metadata, digests=used), opened.embedder)


def _without_labels(
    opened: Classifier, path: str, is_new: bool, progress: Callable[[Progress], None] | None
) -> Calibrated:
    """Return the classifier with one threshold, from images without labels."""
    paths = list(find([path]))
    rows = opened.embedder.images(paths)
    if progress is not None:
        rows = reporting(rows, len(paths), progress)
    images, failures = distinct((row, None) for row in rows)
    if not images:
        reason = f": {failures[0].image}: {failures[0].error}" if failures else ""
        raise EvaluationError(f"{path}: no images to calibrate on{reason}")
    vectors = stacked(list(images.values()))
    if vectors.shape[1] != opened.head.dim:
        raise ModelError(
            f"{path}: its embeddings differ in length from the texts': they come from two models"
        )
    least = threshold(opened.head, opened.embedder, vectors)
    under = int((best_scores(opened.head, vectors) < least).sum())
    record = {"images": len(vectors), "unlabelled": True, "threshold": least, "under": under}
    head = replace(
        opened.head,
        thresholds=np.full(len(opened.classes), least, np.float32),
        temperature=None,
        conformal_quantile=None,
    )
    notes = (
        f"threshold {least:.3f}, which classes of random words exceed on {LEVEL:.0%} of them;"
        f" {under:,} are under it",
        "without labels this is weaker: it bounds no share of false rejections",
    )
    kept = _kept(opened, head, record, path, list(images), is_new)
    return Calibrated(kept, len(vectors), notes, tuple(failures))


def calibrated_head(
    head: Head, vectors: Array, labels: Indices, *, false_rejections: float, coverage: float
) -> tuple[Head, dict[str, Any], list[str]]:
    """Return a head calibrated on images (n, D) with classes (n,), the record of it, and what to say."""
    scores = head.logits(vectors) / np.float32(head.scale)
    right = (scores.argmax(axis=1) == labels).astype(np.float64)
    wrong = int(len(right) - right.sum())
    warmth = best = temperature(scores, labels)
    if wrong < FEW_ERRORS:
        warmth = max(best, coldest(scores, labels))
    least, pooled = thresholds(scores, labels, false_rejections)
    missing = quantile(scores, labels, warmth, coverage)
    errors = [
        reliability(probabilities(scores / np.float32(value)).max(axis=1).astype(np.float64), right)
        for value in (1 / head.scale, warmth)
    ]
    notes = [
        f"temperature {warmth:.2g} (calibration error {100 * errors[0]:.1f}% before,"
        f" {100 * errors[1]:.1f}% after)"
    ]
    if (least == NEVER).all():
        notes.append(
            f"no thresholds: {counted(len(labels), 'image')} are too few for a false-rejection rate of"
            f" {false_rejections:.3g}"
        )
    elif pooled:
        notes.append(
            f"{counted(len(pooled), 'class')} of {len(head.classes):,} with fewer than {FEWEST} images: these"
            " have the threshold of all images"
        )
    if missing == 1:
        notes.append(f"sets hold every class: {coverage:.3g} coverage needs {fewest_for(coverage):,} images")
    if warmth > best:
        notes.append(
            f"{counted(wrong, 'error') if wrong else 'no errors'} on these images, too few to determine the"
            f" temperature (that takes {FEW_ERRORS}): it is kept so high that the mean confidence is at most"
            f" {100 * (right.sum() + 0.5) / (len(right) + 1):.1f}%"
        )
    record = {
        "images": len(labels),
        "false_rejections": false_rejections,
        "coverage": coverage,
        "misclassified": wrong,
        "pooled": [head.classes[at] for at in pooled],
        "temperature": warmth,
        "error_before": errors[0],
        "error_after": errors[1],
    }
    calibrated = replace(head, temperature=warmth, thresholds=least, conformal_quantile=missing)
    return calibrated, record, notes
