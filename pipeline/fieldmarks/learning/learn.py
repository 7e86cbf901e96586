"""Learning: a classifier whose weights were fitted to some labelled images.

A learned classifier's metadata has "learned", a JSON object, beside the weights:

    {"at", "fieldmarks", "data", "images", "fewest", "most": images of a class, "seed", "shared", "strength",
     "criterion", "folds", "zero_shot", "expected": accuracies in cross-validation, "gain", "error",
     "descriptors": {number of a class's descriptors: accuracy in cross-validation}, where some are left out}

A strength of null is infinity: equal weights, zero-shot.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fieldmarks import __version__
from fieldmarks.choices import Decode, Device, DType, Engine, Preset, checks_keywords
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Clip
from fieldmarks.classification.embedding_set import model_for
from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Failure, Progress
from fieldmarks.classification.scoring import Pooling, cosines, normalize
from fieldmarks.classification.sources import quiet_pillow
from fieldmarks.classification.texts import PRESETS
from fieldmarks.data import DatasetSpec
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError, ModelError, UsageError
from fieldmarks.evaluation.evaluate import dataset_spec
from fieldmarks.evaluation.experiment import Candidate, Experiment
from fieldmarks.evaluation.predictions import Images
from fieldmarks.hub import model_id
from fieldmarks.learning.model import Form, OwnWeights, SharedWeights
from fieldmarks.learning.selection import few_descriptors
from fieldmarks.learning.shots import Shots, draw
from fieldmarks.learning.strength import (
    WEAK,
    ZERO_SHOT,
    Choice,
    Steps,
    along,
    choose,
    folds_of,
    sorted_by_fold,
    unvalidated,
)
from fieldmarks.store import Store
from fieldmarks.store.edits import Stamp
from fieldmarks.store.learned_weights import ClassWeights
from fieldmarks.store.learned_weights import write_weights as write_weights_to
from fieldmarks.text import counted

logger = logging.getLogger(__name__)

MIN_STRENGTH = 1e-9  # a smaller one is as good as none, and the optimum need not exist


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A learned classifier, how its strength was chosen, and what it was learned from.

    learned = fm.learn("photos", "frogs.jsonl", shots=16)
    learned.save("frogs.safetensors")
    learned.classifier.predict("a.jpg").label
    """

    classifier: Classifier
    choice: Choice
    images: int  # that it was learned from
    read: int  # images with a class, of which these were drawn
    notes: tuple[str, ...]  # what the closing line says
    failures: tuple[Failure, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the classifier as a file that needs neither the store nor the images. Raises ModelError."""
        self.classifier.save(path)

    @property
    def is_zero_shot(self) -> bool:
        """Whether equal weights were kept."""
        return self.choice.strength == ZERO_SHOT

    def __repr__(self) -> str:
        return f"<Learned from {counted(self.images, 'image')}: {'; '.join(self.notes)}>"

    def to_dict(self) -> dict[str, Any]:
        """Return what was learned from which images as plain data."""
        plain: dict[str, Any] = json.loads(self.classifier.head.metadata["learned"])
        return plain


@checks_keywords
def learn(
    dataset: str | Path | None = None,
    store: Store | str | Path | None = None,
    *,
    classifier: str | Path | None = None,
    shots: int | None = None,
    seed: int = 0,
    strength: float | None = None,
    shared: bool = False,
    descriptors: int | None = None,
    write_weights: bool = False,
    clip: Clip | None = None,
    preset: Preset = "article",
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
    progress: Callable[[Progress | Steps], None] | None = None,
) -> Learned:
    """Learn weights of a store's or a saved classifier's descriptors from a few labelled images.

        learned = fm.learn("photos", "frogs.jsonl", shots=16)
        print(learned)
        learned.save("frogs.safetensors")

    - `dataset`, or `embeddings` with labels, and how they are read: as for `evaluate`.
    - `shots`: images of each class to learn from, drawn by `seed`; all by default. The others are not read
      again, so they can be evaluated.
    - `strength`: of the pull towards equal weights, from 0 (exclusive) to infinity; by default chosen by
      cross-validation inside the shots.
    - `shared`: let every class weigh the descriptors of all classes, with either sign.
    - `descriptors`: keep at most so many texts of each class, those without which most would be lost. What
      each number from all of them down to it promises, is in `to_dict()["descriptors"]`.
    - `write_weights`: also keep the weights on the lines of the store, for `Classifier(use_weights=True)`.
    - `preset`, `text`, `with_name`, `concept` word the descriptors as in `Classifier`; texts are always
      pooled as mean-similarity, each with its weight.
    - `progress` is called after each image, then after each fit of the cross-validation.

    Raises UsageError for an option that is wrong or has no effect, EvaluationError for images that cannot be
    learned from, ModelError for images of another encoder than the classifier's; also as `evaluate`.
    """
    check_source(store, classifier, (preset != "article", text, with_name, concept), "learning")
    if shots is not None and shots < 1:
        raise UsageError(f"shots: expected at least 1 image per class, found {shots}")
    if descriptors is not None and descriptors < 1:
        raise UsageError(f"descriptors: expected at least 1 per class, found {descriptors}")
    if descriptors is not None and shared:
        raise UsageError("descriptors goes with weights of a class's own texts: leave out shared")
    if write_weights and (store is None or shared or with_name):
        raise UsageError(
            "write_weights goes with a store, and neither with shared nor with_name: its lines can only hold"
            " the weights of a class's own descriptors"
        )
    if strength is not None and not strength >= MIN_STRENGTH:
        raise UsageError(f"strength: expected a number from {MIN_STRENGTH:g} to infinity, found {strength}")
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
    model: dict[str, Any] = {
        "clip": clip, "device": device, "dtype": dtype, "engine": engine, "decode": decode, "batch": batch,
        "cache": cache,
    }  # fmt: skip
    with quiet_pillow():
        texts = {"preset": preset, "text": text, "with_name": with_name, "concept": concept}
        opened, candidate = open_classifier(store, classifier, model, texts, spec.embeddings)
        if write_weights:
            check_lines(candidate.classes)
        opened = Classifier.of_head(uncalibrated(opened.head), opened.embedder)
        images = read_images(spec, opened, candidate, progress)
    drawn = draw(images, opened.classes, shots, seed)
    head, choice = fitted(opened.head, drawn, seed=seed, strength=strength, shared=shared, progress=progress)
    notes = [*describe(choice, drawn, strength is not None), *_difference(opened.head, drawn, choice)]
    expected: dict[int, float] = {}
    if descriptors is not None:
        head, expected = _selected(opened.head, drawn, choice.strength, descriptors, seed)
        notes += _described(expected, opened.head, descriptors)
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fieldmarks": __version__,
        "data": str(spec.spec or spec.embeddings),
        "images": len(drawn.labels),
        "fewest": drawn.fewest,
        "most": drawn.most,
        "seed": seed,
        "shared": shared,
        **_plain(choice),
    }
    if expected:
        record["descriptors"] = {str(count): share for count, share in expected.items()}
    metadata = {key: value for key, value in head.metadata.items() if key not in ("created", "learned")}
    metadata |= {"learned": json.dumps(record)}
    if store is not None:
        metadata["fingerprint"] = opened.embedder.encoder.identity
    if write_weights and store is not None:
        notes.append(_written(head, opened, store, record))
    head = replace(head, metadata=metadata, digests=drawn.digests)
    return Learned(
        Classifier.of_head(head, opened.embedder),
        choice,
        len(drawn.labels),
        len(images.names),
        tuple(notes),
        images.failures,
    )


def check_source(store: object, classifier: object, wording: tuple[object, ...], what: str) -> None:
    """Raise UsageError for options that cannot be used, EvaluationError where a package is missing."""
    if (store is None) == (classifier is None):
        raise UsageError("give either --store or --classifier")
    if classifier is not None and any(wording):
        raise UsageError(
            "--preset, --aggregate, --text, --with-name and --concept go with --store: a saved classifier has"
            " its own"
        )
    if find_spec("scipy") is None:
        raise EvaluationError(f"{what} needs scipy: pip install 'fieldmarks[eval]'")


def open_classifier(
    store: Store | str | Path | None,
    path: str | Path | None,
    model: dict[str, Any],
    texts: dict[str, Any],
    embeddings: Path | None = None,
) -> tuple[Classifier, Candidate]:
    """Return what is learned or calibrated, and how its classes match labels.

    The model of `embeddings` reads a store's texts if none is named. Raises as `Classifier`, `model_for`.
    """
    if path is not None:
        opened = Classifier.load(path, **model)
        _check_encoder(opened.head, opened.embedder.encoder.model)
        return opened, Candidate.of_classifier(Path(path), opened.head, opened.embedder)
    assert store is not None
    store = store if isinstance(store, Store) else Store(store)
    model = model | {"clip": model_for(model["clip"], embeddings)}
    opened = Classifier(store, **model, **texts, baseline=True)
    return opened, Candidate.of_store(store, opened.embedder)


def read_images(
    spec: DatasetSpec,
    classifier: Classifier,
    candidate: Candidate,
    progress: Callable[[Progress], None] | None,
) -> Images:
    """Return the labelled images. Raises EvaluationError, ImageError, ModelError for another encoder."""
    experiment = Experiment.open(spec, candidate)
    logged = set(experiment.notices)
    for notice in experiment.notices:
        logger.warning(notice)
    if spec.embeddings is not None:
        _check_encoder(classifier.head, experiment.model)
    experiment, images = experiment.read(progress)
    for notice in experiment.notices:
        if notice not in logged:
            logger.warning(notice)
    if images.vectors.shape[1] != classifier.head.dim:
        raise ModelError(
            f"the images' embeddings have {images.vectors.shape[1]} numbers and the texts'"
            f" {classifier.head.dim}: they come from different models"
        )
    return images


def _check_encoder(head: Head, images: str | None) -> None:
    """Raise ModelError where images are embedded by another model than the classifier's texts."""
    texts = head.metadata.get("model")
    if texts and images and model_id(texts) != model_id(images):
        raise ModelError(
            f"the texts are embedded with {texts} and the images with {images}: weights learned across models"
            " mean nothing; use one model for both"
        )


def fitted(
    head: Head,
    shots: Shots,
    *,
    seed: int = 0,
    strength: float | None = None,
    shared: bool = False,
    progress: Callable[[Steps], None] | None = None,
) -> tuple[Head, Choice]:
    """Return a head with weights fitted to some images, and the choice of their strength."""
    folds = 1 if strength is not None else folds_of(shots.labels)
    order, fold = sorted_by_fold(shots.labels, folds, seed)
    ordered = shots.take(order)
    if strength == ZERO_SHOT or (strength is None and folds < 2):
        return equal_weights(head), unvalidated()
    form = form_of(head, ordered, shared)
    choice = unvalidated(strength or ZERO_SHOT)
    if strength is None:
        choice = choose(form, ordered.labels, fold, head.scale, progress)
    if choice.strength == ZERO_SHOT:
        return equal_weights(head), choice
    found = form.weights(along(form, ordered.labels, choice.strength, head.scale))
    learned = replace(
        head, pooling=Pooling.named("mean-similarity", found.texts), bias=found.bias, digests=None
    )
    return learned, choice


def _selected(
    head: Head, shots: Shots, strength: float, descriptors: int, seed: int
) -> tuple[Head, dict[int, float]]:
    """Return the head with so many texts of each class. Raises EvaluationError for too few images."""
    folds = folds_of(shots.labels)
    if folds < 2:
        raise EvaluationError(
            "which descriptors to keep cannot be validated with one image a class: at least two are needed"
        )
    if (most := int(np.bincount(head.owner).max())) <= descriptors:
        raise EvaluationError(
            f"--descriptors {descriptors} leaves nothing out: no class has more than"
            f" {counted(most, 'descriptor')}"
        )
    return few_descriptors(head, shots, strength, descriptors, seed, folds)


def _described(expected: dict[int, float], head: Head, descriptors: int) -> list[str]:
    """Return what few descriptors promise beside all of them, in words."""
    every = int(np.bincount(head.owner).max())
    kept = counted(descriptors, "descriptor")
    return [
        f"{kept} of each class: expected accuracy {100 * expected[descriptors]:.1f}%, all (up to {every})"
        f" {100 * expected[every]:.1f}%"
    ]


def check_lines(classes: Mapping[str, Sequence[str]]) -> None:
    """Raise EvaluationError for lists to which a line's weights cannot belong."""
    empty = [name for name, texts in classes.items() if not texts]
    twice = [name for name, texts in classes.items() if len(set(texts)) < len(texts)]
    for names, why in ((empty, "no descriptors"), (twice, "a descriptor twice")):
        if names:
            raise EvaluationError(
                f"weights cannot be written: {counted(len(names), 'class')} with {why}: {listed(names)}"
            )


def _written(head: Head, opened: Classifier, store: Store | str | Path, record: dict[str, Any]) -> str:
    """Keep weights in the store; return what was done, in words. Raises StoreError."""
    if not head.is_learned and "descriptors" not in record:
        return "no weights written to the store, as they are equal"
    own = opened.head
    counts = np.bincount(own.owner, minlength=len(own.classes))
    matrix = head.pooling.weights
    if matrix is None:
        matrix = np.zeros((len(head.classes), len(head.owner)), np.float32)
        matrix[head.owner, np.arange(len(head.owner))] = 1 / np.bincount(head.owner)[head.owner]
    of: dict[str, dict[str, float]] = {name: {} for name in own.classes}
    for owner, text in zip(own.owner.tolist(), own.texts.descriptors, strict=True):
        of[own.classes[owner]][text] = 0.0  # of what --descriptors leaves out
    for row, (owner, text) in enumerate(zip(head.owner.tolist(), head.texts.descriptors, strict=True)):
        of[own.classes[owner]][text] = float(matrix[owner, row] * counts[owner])
    bias = np.zeros(len(own.classes)) if head.bias is None else head.bias
    weights = {
        name: ClassWeights(of[name], float(offset))
        for name, offset in zip(own.classes, bias.tolist(), strict=True)
    }
    preset = PRESETS[own.metadata.get("preset", "article")]
    metadata = {
        "encoder": opened.embedder.encoder.model_identity,
        "template": own.metadata.get("text", preset.template),
        "concept": own.metadata.get("concept"),
        "data": record["data"],
    }
    changed = write_weights_to(
        store if isinstance(store, Store) else Store(store), weights, metadata, Stamp()
    )
    return f"weights written to {counted(len(changed), 'class')} of the store"


def form_of(head: Head, shots: Shots, shared: bool) -> Form:
    """Return the form of the weights with the images' similarities, which are computed here, once."""
    classes = len(head.classes)
    if shared:
        return SharedWeights(shots.vectors, normalize(head.embeddings), head.owner, classes)
    return OwnWeights(cosines(shots.vectors, head.embeddings), head.owner, classes)


def uncalibrated(head: Head) -> Head:
    """Return the head without what was calibrated, which holds for the weights that it had alone."""
    metadata = {key: value for key, value in head.metadata.items() if key != "calibrated"}
    return replace(head, temperature=None, thresholds=None, conformal_quantile=None, metadata=metadata)


def equal_weights(head: Head) -> Head:
    """Return the head at infinite strength, which is mean-similarity."""
    return replace(head, pooling=Pooling.named("mean-similarity"), bias=None, digests=None)


def describe(choice: Choice, shots: Shots, is_given: bool) -> list[str]:
    """Return what was chosen and why, in words."""
    if is_given:
        chosen = "equal weights" if choice.strength == ZERO_SHOT else f"strength {choice.strength:.3g}"
        return [f"{chosen}, as given"]
    if choice.criterion is None:
        return [
            "equal weights kept: with one image a class, none can be left out to validate with; at least"
            " two are needed"
        ]
    assert choice.gain is not None
    assert choice.zero_shot is not None
    assert choice.expected is not None
    unit = "points of error" if choice.criterion == "error" else "log-loss"
    size = 100 if choice.criterion == "error" else 1
    gain = f"{size * choice.gain:.2g} ± {size * (choice.error or 0):.2g} {unit}"
    folds = f"{choice.folds}-fold cross-validation"
    if choice.strength == ZERO_SHOT:
        why = "no learned weights did better in cross-validation"
        if choice.best != ZERO_SHOT:
            why = f"the best strength gains {gain} in {folds}, within one standard error"
        return [f"equal weights kept: {why}", f"expected accuracy {100 * choice.zero_shot:.1f}%"]
    weak = f", as zero-shot errs on more than {WEAK:.0%}" if choice.criterion == "log-loss" else ""
    clear = "" if choice.strength == choice.best else " (the strongest within one standard error of the best)"
    return [
        f"strength {choice.strength:.2g}{clear}, which gains {gain} in {folds}{weak}",
        f"expected accuracy {100 * choice.expected:.1f}%, zero-shot {100 * choice.zero_shot:.1f}%",
    ]


def _difference(head: Head, shots: Shots, choice: Choice) -> list[str]:
    """Return how mean-similarity, which infinite strength is, differs from the classifier's own pooling."""
    if choice.strength != ZERO_SHOT or (head.pooling.name == "mean-similarity" and not head.is_learned):
        return []
    before, after = (part.logits(shots.vectors).argmax(axis=1) for part in (head, equal_weights(head)))
    changed = int(np.count_nonzero(before != after))
    if not changed:
        return []
    name = "the learned weights it had" if head.is_learned else head.pooling.name
    return [f"mean-similarity answers {changed:,} of {counted(len(after), 'image')} otherwise than {name}"]


def _plain(choice: Choice) -> dict[str, Any]:
    """Return a choice as plain data: infinity as null."""
    plain = {name: getattr(choice, name) for name in Choice.__slots__}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in plain.items()
    }
