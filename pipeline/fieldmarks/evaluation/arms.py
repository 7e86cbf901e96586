"""Arms: the ways of classifying that are compared, as the texts that CLIP reads for each; and candidates.

name          the bare class name
photo         "a photo of a {class}", with which the others are compared
templates     several templates of the name together
concept       "a photo of a NOUN: a {class}"
descriptors   the store's descriptors in a preset's wording; several of them where several are asked for
sentences     the descriptors of another store, as they are
waffle        the same random words and characters for every class, a trial for each seed
random-words  as many random texts as a class has descriptors, a trial for each seed
swapped       each class with the descriptors of another, a trial for each seed

The last three are controls, which descriptors have to beat; `controls` says how they are drawn. They read the
template of the first arm of descriptors, so the class name stands where that arm has it. Where its texts hold
no class name at all, as in the preset `article`, texts that are the same for every class tell nothing apart:
then random texts read "a photo of a {class}, which has …".

A candidate is what is evaluated: a store's classes with a model that reads their texts, or a saved
classifier. The arms of a saved classifier come from the embeddings that lie in it: no model is needed. Other
texts than its own cannot be embedded, so only `photo` (its baseline), `descriptors` and `swapped` are
available, and without `swapped` where its texts have learned weights.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks.choices import Aggregation, ArmName, Preset, check_choice, check_names, words
from fieldmarks.classification.embedder import Embedder
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, Scorer
from fieldmarks.classification.texts import (
    NAME_TEMPLATE,
    PRESETS,
    Reading,
    Texts,
    descriptor_texts,
    name_texts,
)
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.evaluation.controls import Classes, derangement, random_descriptors, swapped, waffle
from fieldmarks.evaluation.predictions import scorer_of
from fieldmarks.evaluation.results import CONTROLS, Role, role_of
from fieldmarks.store import Store
from fieldmarks.text import fill

NAMES: Final[tuple[str, ...]] = words(ArmName)
DEFAULT_ARMS: Final = ("photo", "descriptors", "waffle", "swapped")
BASELINES: Final = ("photo", "name")  # what other arms are compared with, the first that is there
OF_DESCRIPTORS: Final = ("descriptors", *CONTROLS)  # arms that a preset words
DEFAULT_SEEDS: Final = 5
MAX_SEEDS: Final = 1000
CONCEPT_TEMPLATE: Final = "a photo of a {concept}: a {class}"
WAFFLE_TEMPLATE: Final = "a photo of a {class}, {which}"
OF_ONE_TEXT: Final[Aggregation] = "mean-embedding"  # with one text a class all aggregations agree
OF_TEMPLATES: Final[Aggregation] = "mean-unit-embedding"  # as CLIP and CuPL put their prompts together
SHIPPED_TEMPLATES: Final = Path(__file__).with_name("templates.txt")


@dataclass(frozen=True, slots=True)
class Trial:
    """The texts of one trial; `rows` (M, D) are their embeddings where they need not be computed."""

    texts: Texts
    seed: int | None = None
    rows: Array | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """A method to compare: its template or a description of it, and one trial, or one per seed."""

    name: str
    role: Role
    text: str
    aggregate: Aggregation
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What to compare. Raises UsageError for unknown names, and for options that fit no arm or conflict.

    `aggregates` empty stand for each preset's own. `text`, a template, replaces the preset's; `with_name`
    adds the prompt of the name to each class's texts; `concept` fills {concept}: the arms read what
    `fieldmarks classify` reads with the same options.
    """

    arms: tuple[str, ...] = DEFAULT_ARMS
    presets: tuple[Preset, ...] = ("article",)
    aggregates: tuple[Aggregation, ...] = ()
    seeds: int = DEFAULT_SEEDS
    templates: tuple[str, ...] = ()
    concept: str | None = None
    sentences: Classes | None = None
    text: str | None = None
    with_name: bool = False

    def __post_init__(self) -> None:
        check_names(self.arms, NAMES, "arm")
        for preset in self.presets:
            check_choice("preset", preset, Preset)
        for aggregate in self.aggregates:
            check_choice("aggregate", aggregate, Aggregation)
        if not self.arms or not self.presets:
            raise UsageError("name at least one arm and one preset")
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise UsageError(f"seeds: expected 1 to {MAX_SEEDS:,}, found {self.seeds}")
        for arm, value in (("concept", self.concept), ("sentences", self.sentences)):
            if arm in self.arms and value is None:
                raise UsageError(f"the arm {arm} needs --{arm}")
        of_texts = {"text": self.text, "with-name": self.with_name, "aggregate": self.aggregates}
        of_texts["preset"] = self.presets != ("article",)
        given = [option for option, value in of_texts.items() if value]
        if given and not set(self.arms) & set(OF_DESCRIPTORS):
            raise UsageError(f"--{given[0]} has no effect: no arm reads descriptors")
        if self.text and len(self.presets) > 1:
            raise UsageError("--text replaces a preset's wording: pass one preset")

    def readings(self) -> dict[str, Reading]:
        """Return each way of reading descriptors under the name of its arm, the arm in question first."""
        named = (len(self.presets) > 1, len(self.aggregates) > 1)
        return {
            " ".join(["descriptors", *compress((preset, aggregate), named)]): Reading(
                PRESETS[preset].template if self.text is None else self.text, aggregate
            )
            for preset in self.presets
            for aggregate in self.aggregates or (PRESETS[preset].aggregate,)
        }

    def texts(self, classes: Classes, template: str) -> Texts:
        """Return the texts of classes with descriptors, as `fieldmarks classify` builds them."""
        concept = self.concept if "{concept}" in template else None
        return descriptor_texts(classes, template, concept=concept, with_name=self.with_name)

    def role(self, name: str) -> Role:
        """Return the role of an arm of this name."""
        return role_of(name, [next((baseline for baseline in BASELINES if baseline in self.arms), "")])


def read_templates(path: Path) -> tuple[str, ...]:
    """Return the templates of a file, one per line; blank lines and those that begin with # are left out.

    Raises EvaluationError for a file that cannot be read, or a template without {class}.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    templates = tuple(line for line in lines if line and not line.startswith("#"))
    if not templates:
        raise EvaluationError(f"{path} has no template: write one per line, as in 'a photo of a {{class}}'")
    for line in templates:
        if "{class}" not in line:
            raise EvaluationError(f"{path}: template {line!r:.60} does not contain {{class}}")
    return templates


def arms_of(classes: Classes, config: EvaluationConfig) -> Iterator[Arm]:
    """Yield the arms of classes with their descriptors, in the order of NAMES.

    A class without descriptors is read by the prompt of its name. Raises PromptError for a template with an
    unknown field, EvaluationError for an arm that these classes do not allow.
    """
    of_names = {"name": "{class}", "photo": NAME_TEMPLATE, "concept": CONCEPT_TEMPLATE}
    for name in NAMES:
        if name not in config.arms:
            continue
        role = config.role(name)
        if name in of_names:
            text = fill(of_names[name], {"class": "{class}", "concept": config.concept or "{concept}"})
            trial = Trial(name_texts(classes, of_names[name], config.concept))
            yield Arm(name, role, text, OF_ONE_TEXT, (trial,))
        elif name == "templates":
            yield _templates(classes, config, role)
        elif name == "descriptors":
            for arm, reading in config.readings().items():
                trial = Trial(config.texts(classes, reading.template))
                yield Arm(arm, role, reading.template, reading.aggregate, (trial,))
        elif name == "sentences":
            yield _sentences(classes, config.sentences or {}, role)
        else:
            yield _random(name, classes, config)


def _random(name: str, classes: Classes, config: EvaluationConfig) -> Arm:
    """Return a control of as many trials as there are seeds."""
    if name == "swapped" and sum(map(bool, classes.values())) < 2:
        raise EvaluationError(f"the arm {name} needs two classes with descriptors: leave it out with --arms")
    reading = next(iter(config.readings().values()))
    template = reading.template
    text = f"{template}, with descriptors of another class"
    if name != "swapped":
        template = template if "{class}" in template or config.with_name else WAFFLE_TEMPLATE
        text = template.replace("{descriptor}", "{random}").replace("{which}", "which has {random}")
    drawn = (_drawn(name, classes, seed) for seed in range(config.seeds))
    trials = (Trial(config.texts(lists, template), seed) for seed, lists in enumerate(drawn))
    return Arm(name, config.role(name), text, reading.aggregate, tuple(trials))


def _drawn(name: str, classes: Classes, seed: int) -> Classes:
    """Return what a control has in the place of each class's descriptors."""
    if name == "waffle":
        return dict.fromkeys(classes, waffle(classes, seed))
    return swapped(classes, seed) if name == "swapped" else random_descriptors(classes, seed)


def _templates(classes: Classes, config: EvaluationConfig, role: Role) -> Arm:
    templates = config.templates or read_templates(SHIPPED_TEMPLATES)
    laid = {
        name: [(text, text) for template in templates for text in name_texts([name], template).texts]
        for name in classes
    }
    text = f"{len(templates)} templates, the first {templates[0]}" if len(templates) > 1 else templates[0]
    return Arm("templates", role, text, OF_TEMPLATES, (Trial(Texts.collect(laid)),))


def _sentences(classes: Classes, sentences: Classes, role: Role) -> Arm:
    missing = [name for name in classes if not sentences.get(name)]
    if missing:
        raise EvaluationError(
            f"the store of sentences lacks {len(missing)} of {len(classes)} classes, {missing[0]!r} first"
        )
    texts = descriptor_texts({name: sentences[name] for name in classes}, "{descriptor}")
    return Arm("sentences", role, "{sentence}", OF_TEMPLATES, (Trial(texts),))


@dataclass(frozen=True, slots=True)
class Candidate:
    """Classes with their descriptors, and what gives texts their embeddings.

    Classes without descriptors take part, by the prompt of their name, as in `classify`. `ids` are other
    names of classes; those in `clashing` are of several classes, and match nothing. `measured_on` are the
    data sets on which descriptors' effects were measured, `parents` the broader classes of classes.
    `metadata` says where all this comes from.
    """

    classes: Mapping[str, Sequence[str]]
    metadata: Mapping[str, Any]
    embedder: Embedder
    head: Head | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    clashing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measured_on: frozenset[str] = frozenset()
    parents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_store(cls, store: Store, embedder: Embedder) -> "Candidate":
        """Return a store's current classes. Raises EvaluationError for a store without descriptors."""
        classes = {entry.name: entry.descriptors for entry in store.entries()}
        if not any(classes.values()):
            raise EvaluationError(f"{store.path} has no class with descriptors: generate or add some first")
        digest = hashlib.sha256(store.path.read_bytes()).hexdigest()
        metadata = {"store": store.name, "store_sha256": digest}
        clashing = {text: names for text, names in store.owners_of_ids().items() if len(names) > 1}
        measured = frozenset(entry.measured["data"] for entry in store.entries() if entry.measured)
        return cls(
            classes,
            metadata,
            embedder,
            ids=store.ids(),
            clashing=clashing,
            measured_on=measured,
            parents=store.parents(),
        )

    @classmethod
    def of_classifier(cls, path: Path, head: Head, embedder: Embedder) -> "Candidate":
        """Return a saved classifier, read from a file; the model embeds images alone."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = {"classifier": str(path), "classifier_sha256": digest, "made_of": dict(head.metadata)}
        return cls(descriptors_of(head), metadata, embedder, head, parents=head.parents)

    @property
    def notices(self) -> list[str]:
        """Notices about the classes: which have no list, or one that another class has."""
        empty = [name for name, descriptors in self.classes.items() if not descriptors]
        notices = []
        if empty and self.head is None:
            notices.append(
                f"classes without descriptors: {listed(empty)}; they are read by the prompt of their name, as"
                " `fieldmarks classify` does"
            )
        others: dict[frozenset[str], list[str]] = {}
        for name, descriptors in self.classes.items():
            others.setdefault(frozenset(descriptors), []).append(name)
        twins = [name for marks, names in others.items() if marks and len(names) > 1 for name in names]
        if twins:
            have = f"{listed(twins)} have the list of another class"
            notices.append(f"{have}: their descriptors do not tell them apart")
        return notices

    def arms(self, config: EvaluationConfig) -> tuple[list[Arm], list[str]]:
        """Return the arms, and why others are not available. Raises EvaluationError, PromptError."""
        if self.head is not None:
            return arms_of_head(self.head, config)
        return list(arms_of(self.classes, config)), []

    def rows(self, trial: Trial) -> Array:
        """Return the embeddings (M, D) of a trial's texts."""
        return self.embedder.texts(trial.texts.texts) if trial.rows is None else trial.rows

    def scorer(self, arm: Arm, trial: Trial) -> Scorer:
        """Return what scores images by a trial's texts; those of a saved classifier as it has learned."""
        head = self.head
        if head is None or not head.is_learned or arm.role != "subject":
            return scorer_of(trial.texts, self.rows(trial), arm.aggregate)
        return head.scorer if head.bias is None else _with_bias(head.scorer, head.bias)

    def names(self) -> Array:
        """Return the embeddings (C, D) of the prompts of the classes' names. Raises EvaluationError."""
        if self.head is None:
            return self.embedder.texts(name_texts(self.classes).texts)
        if self.head.baseline is None:
            raise EvaluationError("the saved classifier has no baseline: save it with --baseline to ablate")
        return self.head.baseline

    def undescribed(self, config: EvaluationConfig) -> Array:
        """Return the embeddings (C, D) of the classes without descriptors. Raises EvaluationError."""
        if self.head is not None:
            return self.names()
        reading = next(iter(config.readings().values()))
        plain = replace(config, with_name=False)
        return self.embedder.texts(plain.texts(dict.fromkeys(self.classes, ()), reading.template).texts)

    @property
    def logit_scale(self) -> float:
        """The factor of the cosines."""
        return self.embedder.logit_scale if self.head is None else self.head.scale


def _with_bias(scorer: Scorer, bias: Array) -> Scorer:
    """Return a scorer whose scores (N, C) have a bias (C,) added."""

    def reduce(products: Array) -> Array:
        scores: Array = (products if scorer.reduce is None else scorer.reduce(products)) + bias
        return scores

    return replace(scorer, reduce=reduce)


def arms_of_head(head: Head, config: EvaluationConfig) -> tuple[list[Arm], list[str]]:
    """Return the arms that a saved classifier can answer, and why it cannot answer the others."""
    aggregate, text = head.pooling.name, "as saved"
    if "preset" in head.metadata:
        text = f"as saved, preset {head.metadata['preset']}"
    arms: dict[str, Arm] = {}
    if head.baseline is not None:
        trial = Trial(name_texts(head.classes), None, head.baseline)
        arms["photo"] = Arm("photo", config.role("photo"), NAME_TEMPLATE, OF_ONE_TEXT, (trial,))
    trial = Trial(head.texts, None, head.embeddings)
    arms["descriptors"] = Arm("descriptors", config.role("descriptors"), text, aggregate, (trial,))
    have = [name for name, descriptors in descriptors_of(head).items() if descriptors]
    fixed = head.texts.texts != head.texts.descriptors  # names would move with the texts
    if len(have) > 1 and not fixed and not head.is_learned:
        trials = tuple(_swapped(head, have, config.seeds))
        arms["swapped"] = Arm("swapped", "control", f"{text}, of another class", aggregate, trials)
    why = {
        "photo": "it was saved without a baseline",
        "swapped": "its texts have learned weights"
        if head.is_learned
        else "its texts cannot be shuffled: they contain class names or belong to one class",
    }
    notices = [
        f"a saved classifier has no arm {name}: {why.get(name, 'it needs texts that are not in it')}"
        for name in config.arms
        if name not in arms
    ]
    return [arm for name, arm in arms.items() if name in config.arms], notices


def descriptors_of(head: Head) -> dict[str, list[str]]:
    """Return the descriptors of each class, without the prompts of its name."""
    preset = PRESETS.get(head.metadata.get("preset", ""), PRESETS["article"])
    template, concept = head.metadata.get("text", preset.template), head.metadata.get("concept")
    alone = descriptor_texts(dict.fromkeys(head.classes, ()), template, concept=concept).texts
    prompts = {
        name: {name, *name_texts([name], "{class}").texts, *name_texts([name]).texts, own}
        for name, own in zip(head.classes, alone, strict=True)
    }
    descriptors: dict[str, list[str]] = {name: [] for name in head.classes}
    for row, descriptor in enumerate(head.texts.descriptors):
        name = head.classes[head.texts.owner[row]]
        is_prompt = descriptor in prompts[name] or descriptor.replace("_", " ") in prompts[name]
        descriptors[name] += [] if is_prompt else [descriptor]
    return descriptors


def _swapped(head: Head, have: list[str], seeds: int) -> Iterator[Trial]:
    """Yield the classifier's texts, each under the class that got its list; prompts of a name stay."""
    own = descriptors_of(head)
    place = {name: number for number, name in enumerate(head.classes)}
    for seed in range(seeds):
        order = derangement(len(have), seed)
        receiver = {have[other]: place[name] for name, other in zip(have, order, strict=True)}
        owner = np.array(
            [
                receiver[name] if head.texts.descriptors[row] in own[name] else place[name]
                for row, name in enumerate(head.classes[number] for number in head.texts.owner)
            ]
        )
        rows = np.argsort(owner, kind="stable")  # class after class
        moved = replace(
            head.texts,
            owner=tuple(owner[rows].tolist()),
            descriptors=tuple(head.texts.descriptors[row] for row in rows),
            texts=tuple(head.texts.texts[row] for row in rows),
        )
        yield Trial(moved, seed, head.embeddings[rows])
