"""One evaluation: arms on the same images, their figures, what they say, and the images worth showing."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import DEFAULT_CLIP, Aggregation, Decode, Device, DType, Engine, Preset
from fieldmarks.classification.broader import groups_of
from fieldmarks.classification.classifier_file import load_head
from fieldmarks.classification.embedder import Clip, open_embedder
from fieldmarks.classification.embedding_set import model_for
from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Failure, Prediction, Progress
from fieldmarks.classification.scoring import Pooling
from fieldmarks.classification.sources import quiet_pillow
from fieldmarks.data import DatasetSpec
from fieldmarks.errors import EvaluationError, ModelError, UsageError
from fieldmarks.evaluation import ablation
from fieldmarks.evaluation.arms import (
    DEFAULT_ARMS,
    DEFAULT_SEEDS,
    SHIPPED_TEMPLATES,
    Arm,
    EvaluationConfig,
    read_templates,
)
from fieldmarks.evaluation.certainty import back_off, certainty, confidence, is_calibrated, told_apart
from fieldmarks.evaluation.estimates import BackOff, Confidence
from fieldmarks.evaluation.experiment import Candidate, Experiment, provenance
from fieldmarks.evaluation.metrics import figures
from fieldmarks.evaluation.predictions import Images, chunks, predict
from fieldmarks.evaluation.results import (
    CONTROLS,
    ArmResult,
    DescriptorEffect,
    Evaluation,
    Exemplar,
    Predictions,
)
from fieldmarks.evaluation.summary import sentences as summary_of
from fieldmarks.extras import install
from fieldmarks.store import Store

logger = logging.getLogger(__name__)

MOST: Final = 24  # examples
CLASSES_SHOWN: Final = 5  # of each example
_PART: Final = 2**16  # images at a time


def evaluate(
    store: Store | str | Path | None = None,
    dataset: str | Path | None = None,
    *,
    classifier: str | Path | None = None,
    clip: Clip | None = None,
    arms: Sequence[str] | None = None,
    preset: Preset | Sequence[Preset] = "article",
    aggregate: Aggregation | Sequence[Aggregation] | None = None,
    text: str | None = None,
    with_name: bool = False,
    concept: str | None = None,
    templates: str | Path | Sequence[str] | None = None,
    sentences: Store | str | Path | None = None,
    seeds: int | None = None,
    ablate: bool = False,
    unknown: str | Path | None = None,
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
    thumbnails: bool = False,
    command: Sequence[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Measure a store or a saved classifier on labelled images, compared with plain prompts and chance.

        store = fm.Store("frogs.jsonl")
        result = fm.evaluate(store, "photos", arms=["photo", "descriptors"], limit=500)
        print(result)
        result.save("run.json")

    - `dataset`: a folder with a folder per class, a manifest, tables, tars or hf:NAME, as `open_dataset`
      reads it, with `split`, `image_column`, `label_column`, `limit` (images) and `streaming`; and/or
      `embeddings`, a folder or file of image embeddings. `aliases` is a file of labels with the classes they
      stand for; `allow_missing` leaves out labels without a class, which are errors otherwise. A class
      without descriptors takes part by the prompt of its name, as in `Classifier`.
    - `arms`: of name, photo, templates, concept, descriptors, sentences, waffle, random-words, swapped; by
      default photo, descriptors, waffle and swapped. `concept`, `templates` and `sentences` add the arm of
      their name.
    - `preset` (one or several), `aggregate` (one or several), `text`, `with_name` and `concept` word the
      descriptors as in `Classifier`, so what is measured is what classifies. `seeds`: random trials of the
      controls waffle, random-words and swapped.
    - `clip`, `device`, `dtype`, `engine`, `decode`, `batch` and `cache`: the model, as in `Classifier`.
    - `unknown`: images of none of the classes (with `embeddings`, embeddings too). How well they are told
      from the others is then in the result's `confidence`, which a calibrated classifier has anyway.
    - `ablate` also measures each descriptor's contribution; `thumbnails` adds small copies of the examples;
      `progress` is called after each image; `command` is noted in the result's settings.

    The data set is read once. Images that repeat another of their class count in the figures, but intervals
    and p are of the distinct ones. Raises UsageError for a wrong, unknown or ineffective option,
    EvaluationError, StoreError, ModelError and ImageError for what cannot be read.
    """
    _check_package()
    if isinstance(templates, str | Path):
        templates = read_templates(Path(templates))
    if (store is None) == (classifier is None):
        raise UsageError("give either --store or --classifier")
    if classifier is not None and (_several(preset) != ("article",) or aggregate or text or with_name):
        raise UsageError(
            "--preset, --aggregate, --text and --with-name go with --store: a saved classifier has its own"
        )
    brought = {"templates": templates, "concept": concept, "sentences": sentences}  # arms of an option's name
    of_texts = [name for name, value in brought.items() if value is not None]
    if classifier is not None and of_texts:
        raise UsageError(f"--{of_texts[0]} goes with --store: a saved classifier reads no other texts")
    wanted = tuple(dict.fromkeys(DEFAULT_ARMS if arms is None else _several(arms)))
    wanted += tuple(arm for arm in of_texts if arm not in wanted)
    if "templates" in wanted and templates is None:
        templates = read_templates(SHIPPED_TEMPLATES)
    if seeds is not None and not set(wanted) & set(CONTROLS):
        raise UsageError(f"--seeds has no effect: no arm is random ({', '.join(CONTROLS)})")
    config = EvaluationConfig(
        arms=wanted,
        presets=_several(preset),
        aggregates=_several(aggregate or ()),
        seeds=DEFAULT_SEEDS if seeds is None else seeds,
        templates=tuple(templates or ()),
        concept=concept,
        sentences=None if sentences is None else descriptors_in(sentences),
        text=text,
        with_name=with_name,
    )
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
        candidate = open_candidate(
            store,
            classifier,
            clip,
            embeddings,
            device=device,
            dtype=dtype,
            engine=engine,
            decode=decode,
            batch=batch,
            cache=cache,
        )
        experiment = Experiment.open(spec, candidate)
        of_sentences = None if sentences is None else str(getattr(sentences, "path", sentences))
        more = {"command": None if command is None else list(command), "sentences": of_sentences}
        return run(
            experiment,
            config,
            ablate=ablate,
            unknown=None if unknown is None else str(unknown),
            thumbnails=thumbnails,
            more=more,
            progress=progress,
            explicit=arms is not None,
        )


def dataset_spec(
    dataset: str | Path | None, *, embeddings: str | Path | None, aliases: str | Path | None, **options: Any
) -> DatasetSpec:
    """Return which images to use. Raises UsageError for none, and for options that have no effect."""
    if dataset is not None and not str(dataset):
        raise UsageError("DATASET is empty: pass a folder or a file")
    if dataset is None and embeddings is None:
        raise UsageError("pass a DATASET, or --image-embeddings with labels of their own")
    of_dataset = ("split", "image_column", "label_column", "limit", "streaming")
    idle = next((name for name in of_dataset if options[name]), None)
    if dataset is None and idle:
        raise UsageError(f"--{idle.replace('_', '-')} needs a DATASET, but none was given")
    return DatasetSpec(
        None if dataset is None else str(dataset),
        embeddings=None if embeddings is None else Path(embeddings),
        aliases=None if aliases is None else Path(aliases),
        **options,
    )


def open_candidate(
    store: Store | str | Path | None,
    classifier: str | Path | None,
    clip: Clip | None,
    embeddings: str | Path | None = None,
    **options: Any,
) -> Candidate:
    """Return what is evaluated, a store or else a saved classifier; `options` are those of `open_embedder`.

    The model of `embeddings` reads a store's texts if none is named. Raises as `Candidate`, `open_embedder`
    and `model_for`, StoreError.
    """
    head = None if classifier is None else load_head(Path(classifier))
    clip = model_for(clip, embeddings) if head is None else clip
    default = DEFAULT_CLIP if head is None else head.metadata.get("model", "")
    embedder = open_embedder(clip, default=default, **options)
    if classifier is not None and head is not None:
        return Candidate.of_classifier(Path(classifier), head, embedder)
    assert store is not None
    return Candidate.of_store(store if isinstance(store, Store) else Store(store), embedder)


def descriptors_in(store: Store | str | Path) -> dict[str, tuple[str, ...]]:
    """Return each class's descriptors in a store. Raises StoreError."""
    opened = store if isinstance(store, Store) else Store(store)
    return {entry.name: entry.descriptors for entry in opened.entries()}


def _several(words: Any) -> tuple[Any, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


def run(
    experiment: Experiment,
    config: EvaluationConfig,
    *,
    ablate: bool = False,
    unknown: str | None = None,
    thumbnails: bool = False,
    more: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    explicit: bool = False,
) -> Evaluation:
    """Run the arms on the images and return the whole evaluation; `more` are the caller's settings.

    With `explicit`, an arm that a saved classifier does not have is an error. Raises EvaluationError where an
    arm is not available, ModelError, and as `Experiment.read`.
    """
    for notice in experiment.notices:
        logger.warning(notice)
    logged = len(experiment.notices) if experiment.matching else 0
    candidate = experiment.candidate
    arms, left_out = candidate.arms(config)
    if left_out and explicit:
        raise UsageError("; ".join(left_out))
    if not arms:
        raise EvaluationError("no arm is left to run: " + "; ".join(left_out))
    if ablate:
        _check_ablation(arms, candidate)
    if unknown is not None and not any(arm.role == "subject" for arm in arms):
        raise EvaluationError("--unknown needs the arm descriptors, whose confidence is measured")
    with tempfile.TemporaryFile() if thumbnails else nullcontext() as copies:
        experiment, images = experiment.read(progress, copies)
        subject = next((arm for arm in arms if arm.role == "subject"), None)
        if subject is not None:  # its embeddings are used several times
            trial = replace(subject.trials[0], rows=candidate.rows(subject.trials[0]))
            arms[arms.index(subject)] = subject = replace(subject, trials=(trial,))
        results = _results(arms, candidate, images)
        parents = broader(candidate)
        sure, failures, noticed = _confidence(subject, experiment, images, unknown, progress)
        notices = (*experiment.notices, *left_out, *experiment.caveats(images), *noticed)
        for notice in notices[logged:]:
            logger.warning(notice)
        return Evaluation(
            settings=provenance(experiment, config, more or {}),
            classes=tuple(candidate.classes),
            images=images.names,
            labels=images.labels,
            arms=results,
            repeats=images.repeats,
            parents=parents,
            summary=summary_of(results, images.distinct),
            notices=notices,
            failures=(*images.failures, *failures),
            confidence=sure,
            back_off=_back_off(subject, candidate, images, parents) if subject and parents else None,
            effects=_effects(subject, candidate, images, config) if ablate and subject else (),
            examples=_examples(subject, candidate, images, results, copies) if subject else (),
        )


def _results(arms: Sequence[Arm], candidate: Candidate, images: Images) -> tuple[ArmResult, ...]:
    """Return the arms with their figures, beside the baseline's, which is computed first."""
    classes = len(candidate.classes)
    ordered = sorted(arms, key=lambda arm: arm.role != "baseline")
    results: dict[str, ArmResult] = {}
    baseline = None
    for arm in ordered:
        runs = tuple(answers(arm, candidate, images))
        results[arm.name] = figures(arm, runs, images.labels, classes, baseline, images.distinct)
        baseline = results[arm.name] if arm.role == "baseline" else baseline
    return tuple(results[arm.name] for arm in arms)


def broader(candidate: Candidate) -> dict[str, str]:
    """Return the broader class of each class that has one, where that joins some."""
    if not candidate.parents:
        return {}
    try:
        groups = groups_of(list(candidate.classes), candidate.parents)
    except ModelError as error:
        logger.warning("broader classes are not counted: %s", error)
        return {}
    if len(set(groups)) == len(groups):
        return {}
    return {name: group for name, group in zip(candidate.classes, groups, strict=True) if name != group}


def _confidence(
    subject: Arm | None,
    experiment: Experiment,
    images: Images,
    unknown: str | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[Confidence | None, tuple[Failure, ...], tuple[str, ...]]:
    """Return the figures of the descriptors' confidence, if asked for; failures and notices of `unknown`."""
    candidate = experiment.candidate
    if subject is None or not (unknown is not None or is_calibrated(candidate.head)):
        return None, (), ()
    scorer, scale = candidate.scorer(subject, subject.trials[0]), candidate.logit_scale
    once = images.distinct
    labels = images.labels[once]
    known = certainty(images.vectors[once], scorer, scale, candidate.head, labels)
    figures = confidence(known, labels, candidate.head)
    if unknown is None:
        return figures, (), ()
    vectors, failures, notices = experiment.read_unknown(unknown, images, progress)
    if vectors.shape[1] != images.vectors.shape[1]:
        raise ModelError(f"{unknown}: its embeddings differ in length from those of the labelled images")
    others = certainty(vectors, scorer, scale, candidate.head)
    return replace(figures, unknown=told_apart(known, others, unknown)), failures, notices


def _back_off(subject: Arm, candidate: Candidate, images: Images, parents: Mapping[str, str]) -> BackOff:
    """Return the figures of the descriptors' answers, if these may be broader classes."""
    names = [parents.get(name, name) for name in candidate.classes]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    once = images.distinct
    scorer = candidate.scorer(subject, subject.trials[0])
    return back_off(images.vectors[once], images.labels[once], scorer, candidate.logit_scale, groups)


def answers(arm: Arm, candidate: Candidate, images: Images) -> list[Predictions]:
    """Return what an arm's trials answer; only one trial's embeddings are in memory."""
    return [
        predict(images.vectors, images.labels, candidate.scorer(arm, trial), trial.seed)
        for trial in arm.trials
    ]


def _check_ablation(arms: Sequence[Arm], candidate: Candidate) -> None:
    """Raise EvaluationError, before images are read, where no descriptor can be left out."""
    if not any(arm.role == "subject" for arm in arms):
        raise EvaluationError("there is nothing to ablate without the arm descriptors")
    if len(candidate.classes) < 2:
        raise EvaluationError(ablation.ALONE)
    if candidate.head is not None:
        candidate.names()
        if candidate.head.is_learned:
            raise EvaluationError("--ablate cannot leave out a text that has a learned weight")


def _effects(
    subject: Arm, candidate: Candidate, images: Images, config: EvaluationConfig
) -> tuple[DescriptorEffect, ...]:
    effects = ablation.effects(
        images.vectors,
        images.labels,
        subject.trials[0].texts,
        candidate.rows(subject.trials[0]),
        candidate.undescribed(config),
        subject.aggregate,
        candidate.logit_scale,
    )
    return tuple(effect for effect in effects if effect.descriptor in candidate.classes[effect.name])


def choose(subject: ArmResult, baseline: ArmResult | None, labels: NDArray[np.int32]) -> list[int]:
    """Return the images to show, at most MOST: as many of each kind as there are, class after class.

    The kinds are: only descriptors right, only the baseline right, both wrong. Without a baseline, those
    that descriptors get wrong.
    """
    right = subject.hits()[0]
    kinds = [~right]
    if baseline is not None:
        plain = baseline.hits()[0]
        kinds = [right & ~plain, plain & ~right, ~right & ~plain]
    turns = zip_longest(*(_class_after_class(kind, labels) for kind in kinds))
    return sorted([image for image in chain.from_iterable(turns) if image is not None][:MOST])


def _class_after_class(kind: NDArray[np.bool_], labels: NDArray[np.int32]) -> list[int]:
    """Return the images of a kind: the first of each class, then the second of each, up to the MOSTth."""
    seen: dict[int, int] = {}
    keyed = []
    for part in chunks(len(kind), _PART):
        images = part.start + np.flatnonzero(kind[part])
        for image, label in zip(images.tolist(), labels[images].tolist(), strict=True):
            seen[label] = place = seen.get(label, 0) + 1
            if place <= MOST:
                keyed.append((place, label, image))
    return [image for *_, image in sorted(keyed)]


def _examples(
    subject: Arm, candidate: Candidate, images: Images, results: Sequence[ArmResult], copies: IO[bytes] | None
) -> list[Exemplar]:
    """Return images worth showing with what each arm's first run says, scores and marks of the subject."""
    by_name = {result.name: result for result in results}
    chosen = choose(by_name[subject.name], by_name.get("photo"), images.labels)
    trial = subject.trials[0]
    baseline = candidate.names() if "photo" in by_name else None
    if candidate.head is None:
        pooling = Pooling.named(subject.aggregate)
        head = Head(trial.texts, candidate.rows(trial), candidate.logit_scale, pooling, baseline)
    else:
        head = replace(candidate.head, baseline=baseline)
    vectors = images.vectors[chosen]
    scored = zip(
        chosen, vectors, head.scores(vectors, CLASSES_SHOWN), head.baseline_scores(vectors), strict=True
    )
    return [
        Exemplar(
            head.classes[images.labels[image]],
            {result.name: head.classes[result.runs[0].predicted[image]] for result in results},
            Prediction(
                images.names[image],
                scores[0].name,
                scores,
                baseline,
                head.explain(vector, scores),
                _copy(images, image, copies),
            ),
        )
        for image, vector, scores, baseline in scored
    ]


def _copy(images: Images, image: int, copies: IO[bytes] | None) -> bytes | None:
    """Return the small copy of an image, where there is one."""
    place = images.copies[image] if images.copies else None
    if copies is None or place is None:
        return None
    copies.seek(place[0])
    return copies.read(place[1])


def _check_package() -> None:
    """Raise EvaluationError where the package of the extra is missing."""
    if find_spec("scipy") is None:
        raise EvaluationError(f"an evaluation needs scipy: {install('eval')}")
