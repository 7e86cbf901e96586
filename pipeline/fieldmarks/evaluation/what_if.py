"""What a change to a class's descriptors would do: predictions that change, accuracy before and after."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmarks.choices import Aggregation, Decode, Device, DType, Engine, Preset, nearest
from fieldmarks.classification.embedder import Clip
from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Failure, Progress
from fieldmarks.classification.sources import quiet_pillow
from fieldmarks.classification.texts import PRESETS, Texts, descriptor_texts
from fieldmarks.errors import EvaluationError, StoreError, UsageError
from fieldmarks.evaluation.arms import EvaluationConfig
from fieldmarks.evaluation.evaluate import answers, dataset_spec, open_candidate
from fieldmarks.evaluation.experiment import Candidate, Experiment
from fieldmarks.evaluation.predictions import Images
from fieldmarks.evaluation.stored import names_at
from fieldmarks.records import Entry
from fieldmarks.store import Store, edits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Flip:
    """An image whose prediction changes."""

    image: str
    label: str
    before: str
    after: str

    @property
    def kind(self) -> str:
        """Whether it is newly right ("gained"), newly wrong ("lost"), or wrong either way ("other")."""
        if self.after == self.label:
            return "gained"
        return "lost" if self.before == self.label else "other"

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "image": self.image,
            "label": self.label,
            "before": self.before,
            "after": self.after,
            "kind": self.kind,
        }


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A change of a class's descriptors with what it does; accuracies are shares of `images`.

    `added` and `dropped` are the descriptors that the class gets and loses.
    """

    name: str
    descriptors: tuple[str, ...]
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    images: int
    before: float
    after: float
    flips: tuple[Flip, ...]
    failures: tuple[Failure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "class": self.name,
            "descriptors": list(self.descriptors),
            "added": list(self.added),
            "dropped": list(self.dropped),
            "pictures": self.images,
            "accuracy_before": self.before,
            "accuracy_after": self.after,
            "flips": [flip.to_dict() for flip in self.flips],
        }


def what_if(
    store: Store | str | Path | None,
    name: str,
    dataset: str | Path | None = None,
    *,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    classifier: str | Path | None = None,
    preset: Preset = "article",
    aggregate: Aggregation | None = None,
    text: str | None = None,
    with_name: bool = False,
    concept: str | None = None,
    clip: Clip | None = None,
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
) -> WhatIf:
    """Return which predictions on labelled images would change if a class had other descriptors.

    `add` are descriptors, `drop` are descriptors or their numbers, from 1. A saved `classifier` may stand in
    the place of the store; of a learned one descriptors can be dropped alone, and the weights of the class's
    others then grow in proportion. All else is as for `evaluate`. Raises EvaluationError if nothing changes,
    StoreError for a class or descriptor that is not there.
    """
    if not (add or drop):
        raise UsageError("pass a change: --add TEXT or --drop TEXT|NUMBER")
    if (store is None) == (classifier is None):
        raise UsageError("give either --store or --classifier")
    if classifier is not None and (preset != "article" or aggregate or text or with_name or concept):
        raise UsageError(
            "--preset, --aggregate, --text, --with-name and --concept go with --store: a saved classifier has"
            " its own"
        )
    config = EvaluationConfig(
        arms=("descriptors",),
        presets=(preset,),
        aggregates=(aggregate,) if aggregate else (),
        text=text,
        with_name=with_name,
        concept=concept,
    )
    (reading,) = config.readings().values()
    if concept is not None and "{concept}" not in reading.template:
        raise UsageError("--concept has no effect: pass --text with {concept}")
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
        after = changed(candidate, name, add, drop)
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
        experiment = Experiment.open(spec, candidate)
        for notice in experiment.notices:
            logger.warning(notice)
        experiment, images = experiment.read(progress)
        result = compare(candidate, after, name, images, config)
        for notice in (*experiment.notices, *experiment.caveats(images)):
            logger.warning(notice)
    if not result.descriptors:
        logger.warning("without descriptors the class falls back to the prompt for its name")
    return result


def changed(candidate: Candidate, name: str, add: Sequence[str], drop: Sequence[str]) -> Candidate:
    """Return the candidate with descriptors of a class added, and dropped by text or by number, from 1.

    Raises EvaluationError if nothing changes, StoreError for a class or descriptor that is not there.
    """
    if candidate.head is None:
        edits.find(list(candidate.classes), name, candidate.metadata["store"])
    elif name not in candidate.classes:
        file, near = candidate.metadata["classifier"], nearest(name, candidate.classes)
        raise StoreError(f"{file} has no class {name!r}{near}: check the name")
    stamp = edits.Stamp()
    entry = Entry(name, tuple(candidate.classes[name]))
    after = edits.dropped(entry, drop, stamp) if drop else entry
    after = (edits.added(after, add, stamp) if add else None) or after
    if after.descriptors == entry.descriptors:
        raise EvaluationError(f"{name!r} has these descriptors already: nothing would change")
    classes = {**candidate.classes, name: after.descriptors}
    if candidate.head is None:
        return replace(candidate, classes=classes)
    new = [text for text in after.descriptors if text not in entry.descriptors]
    gone = [text for text in entry.descriptors if text not in after.descriptors]
    return replace(candidate, classes=classes, head=_changed_head(candidate, name, new, gone))


def _changed_head(candidate: Candidate, name: str, new: Sequence[str], gone: Sequence[str]) -> Head:
    """Return a saved classifier's head with other texts of a class. Raises EvaluationError."""
    head = candidate.head
    assert head is not None
    label = head.classes.index(name)
    own = head.owner == label
    kept = ~(own & np.isin(head.texts.descriptors, list(gone)))
    weights = head.pooling.weights
    if head.is_learned and new:
        raise EvaluationError("a learned classifier has no weight for a new descriptor: learn again with it")
    if not (kept & own).any() and not new:
        raise EvaluationError(f"nothing would be left of {name!r} in the saved classifier: keep a descriptor")
    if weights is not None:
        if np.delete(weights, np.flatnonzero(own), axis=1)[label].any():
            raise EvaluationError(
                "its weights are shared between the texts of all classes: learn again without the descriptor"
            )
        before, after = float(weights[label].sum()), float(weights[label, kept].sum())
        if not after > 0:
            raise EvaluationError(f"the other descriptors of {name!r} have no weight: learn again without it")
        weights = weights[:, kept]
        weights[label] *= before / after
    added = _texts_of(head, name, new)
    texts, rows = head.texts, np.flatnonzero(kept).tolist()
    embeddings = head.embeddings[kept]
    if new:
        embeddings = np.concatenate([embeddings, candidate.embedder.texts(added.texts)])
    return replace(
        head,
        texts=Texts(
            texts.classes,
            (*(texts.owner[row] for row in rows), *(label for _ in new)),
            (*(texts.descriptors[row] for row in rows), *added.descriptors),
            (*(texts.texts[row] for row in rows), *added.texts),
        ),
        embeddings=embeddings,
        pooling=replace(head.pooling, weights=weights),
    )


def _texts_of(head: Head, name: str, descriptors: Sequence[str]) -> Texts:
    """Return the texts of descriptors of a class in a saved classifier's wording."""
    if not descriptors:
        return Texts((), (), (), ())
    preset = PRESETS.get(head.metadata.get("preset", ""), PRESETS["article"])
    template, concept = head.metadata.get("text", preset.template), head.metadata.get("concept")
    return descriptor_texts({name: descriptors}, template, concept=concept)


def compare(
    before: Candidate,
    after: Candidate,
    name: str,
    images: Images,
    config: EvaluationConfig,
) -> WhatIf:
    """Return which predictions change if a class has other descriptors; `config` has their arm alone."""
    arms = [(candidate, candidate.arms(config)[0]) for candidate in (before, after)]
    was, now = (answers(arm, candidate, images)[0] for candidate, (arm,) in arms)
    classes = tuple(before.classes)
    changed = np.flatnonzero(was.predicted != now.predicted)
    flips = tuple(
        Flip(
            name_of_image,
            classes[images.labels[at]],
            classes[was.predicted[at]],
            classes[now.predicted[at]],
        )
        for at, name_of_image in zip(changed.tolist(), names_at(images.names, changed), strict=True)
    )
    old, new = before.classes[name], tuple(after.classes[name])
    return WhatIf(
        name,
        new,
        tuple(text for text in new if text not in old),
        tuple(text for text in old if text not in new),
        len(images.names),
        float((was.rank == 0).mean()),
        float((now.rank == 0).mean()),
        flips,
        images.failures,
    )
