"""One evaluation from what the user asks for: the data set, the arms, the figures, what they say.

`Setup.open` reads labels and counts pictures, without a model; `evaluate` runs the arms.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification import interchange
from fieldmarks.classification.head import Head
from fieldmarks.classification.run import Model
from fieldmarks.errors import EvaluationError, ModelError
from fieldmarks.evaluation import ablation, examples
from fieldmarks.evaluation.answers import Scorer, answer
from fieldmarks.evaluation.arms import Arm, Wanted
from fieldmarks.evaluation.data import DataSet, Source, kept, labels, open_dataset, preflight
from fieldmarks.evaluation.metrics import Answered, figures
from fieldmarks.evaluation.pictures import Labelled, Pictures, Progress, embed, gather, told
from fieldmarks.evaluation.results import Effect, Evaluation, Exemplar
from fieldmarks.evaluation.settings import settings
from fieldmarks.evaluation.subject import Subject
from fieldmarks.evaluation.summary import is_described, sentences

TEXTS_SHOWN: Final = 3  # of each arm
BASELINES: Final = ("photo", "name")  # what other arms are compared with, the first that is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Which labelled pictures are meant: a data set, kept embeddings, or a data set that labels these."""

    source: Source | None = None
    embeddings: Path | None = None
    aliases: Path | None = None
    allow_missing: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """Labelled pictures that have met the classes of a subject.

    `class_of` says which class each label stands for; labels without a class, and empty classes, are not in
    it. `counts` are the labels with their numbers of pictures.
    """

    data: Data
    subject: Subject
    dataset: DataSet | None
    counts: Mapping[str, int]
    matching: labels.Matching
    notices: tuple[str, ...]

    @classmethod
    def open(cls, data: Data, subject: Subject) -> "Setup":
        """Read the labels and match them. Raises EvaluationError, ImageError."""
        dataset = None if data.source is None else open_dataset(data.source)
        if data.embeddings is not None:
            counts = Counter(
                label for _, label in kept.labelled(data.embeddings, dataset) if label is not None
            )
        else:
            assert dataset is not None
            counts = dataset.labels()
        aliases = None if data.aliases is None else labels.read_aliases(data.aliases)
        matching = labels.match(counts, [*subject.classes, *subject.empty], aliases)
        notices = labels.require(matching, subject.empty, data.allow_missing)
        scored = {label: name for label, name in matching.class_of.items() if name in subject.classes}
        matching = replace(matching, class_of=scored)
        told = (*(dataset.notices if dataset else ()), *notices)
        return cls(data, subject, dataset, counts, matching, told)

    def preflight(self) -> preflight.Preflight | None:
        """Return what to know of the data set; of kept embeddings alone there is nothing to read."""
        return None if self.dataset is None else preflight.inspect(self.dataset, self.matching)

    @property
    def about(self) -> dict[str, Any]:
        """What is needed to read the same pictures again."""
        about = dict(self.dataset.about) if self.dataset else {}
        about |= {"embeddings": str(self.data.embeddings)} if self.data.embeddings else {}
        about |= {"aliases": str(self.data.aliases)} if self.data.aliases else {}
        return about | {"allow_missing": self.data.allow_missing}

    def pictures(self, tell: Callable[[Progress], None]) -> Pictures:
        """Return the pictures, embedded. Raises EvaluationError, ImageError, ModelError."""
        class_of = self.matching.class_of
        total = sum(count for label, count in self.counts.items() if label in class_of)
        return gather(told(self._labelled(), total, tell), class_of, list(self.subject.classes))

    def _labelled(self) -> Iterator[Labelled]:
        if self.data.embeddings is None:
            assert self.dataset is not None
            yield from embed(self.dataset, self.matching.class_of, self.subject.embedder)
            return
        for place, (one, label) in enumerate(kept.labelled(self.data.embeddings, self.dataset)):
            yield one, label, place


def evaluate(
    setup: Setup,
    wanted: Wanted,
    model: Model,
    *,
    ablate: bool = False,
    thumbnails: bool = False,
    more: Mapping[str, Any] | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Evaluation:
    """Run the arms on the pictures and return all that came out; `more` are settings of the caller's.

    Raises EvaluationError where an arm cannot be had, ModelError, and as `Setup.pictures`.
    """
    _check_packages()
    subject = setup.subject
    arms, left_out = subject.arms(wanted)
    if not arms:
        raise EvaluationError("no arm is left to run: " + "; ".join(left_out))
    pictures = setup.pictures(tell)
    answered = [_answered(arm, subject, pictures) for arm in arms]
    classes = tuple(subject.classes)
    baseline = next((arm for name in BASELINES for arm in answered if arm.name == name), None)
    results = tuple(
        figures(arm, pictures.labels, len(classes), None if arm is baseline else baseline) for arm in answered
    )
    main = next((arm for arm in arms if is_described(arm.name)), None)
    return Evaluation(
        settings=settings(
            about={**subject.about, **(more or {})},
            data=setup.about,
            model=model,
            name=_model_name(setup),
            wanted=wanted,
        ),
        classes=classes,
        images=pictures.images,
        labels=pictures.labels,
        arms=results,
        summary=sentences(results),
        notices=(*setup.notices, *left_out, *_told(setup, pictures)),
        failures=pictures.failures,
        effects=_effects(main, subject, pictures) if ablate else (),
        examples=_examples(main, setup, pictures, answered, thumbnails) if main else (),
    )


def _answered(arm: Arm, subject: Subject, pictures: Pictures) -> Answered:
    """Return what an arm's draws answer; only one draw's embeddings are in memory."""
    runs = []
    for draw in arm.draws:
        rows = subject.rows(draw)
        if rows.shape[1] != pictures.vectors.shape[1]:
            raise ModelError(
                f"the pictures' embeddings have {pictures.vectors.shape[1]} numbers and the texts'"
                f" {rows.shape[1]}: they come from different models"
            )
        scorer = Scorer(draw.texts, rows, arm.aggregate)
        runs.append(answer(pictures.vectors, pictures.labels, scorer, draw.seed))
    return Answered(
        name=arm.name,
        text=arm.text,
        aggregate=arm.aggregate,
        texts=arm.draws[0].texts.texts[:TEXTS_SHOWN],
        runs=tuple(runs),
    )


def _effects(main: Arm | None, subject: Subject, pictures: Pictures) -> tuple[Effect, ...]:
    if main is None:
        raise EvaluationError("there is nothing to ablate without the arm descriptors")
    rows = subject.rows(main.draws[0])
    ablated = ablation.Ablated(
        main.draws[0].texts, rows, subject.names(), main.aggregate, subject.logit_scale
    )
    return ablation.effects(pictures.vectors, pictures.labels, ablated)


def _examples(
    main: Arm, setup: Setup, pictures: Pictures, answered: Sequence[Answered], thumbnails: bool
) -> Sequence[Exemplar]:
    """Return pictures worth showing, with the marks of the main way of reading descriptors."""
    by_name = {arm.name: arm for arm in answered}
    chosen = examples.choose(by_name[main.name], by_name.get("photo"), pictures.labels)
    subject = setup.subject
    baseline = subject.names() if "photo" in by_name else None
    draw = main.draws[0]
    head = Head(draw.texts, subject.rows(draw), subject.logit_scale, main.aggregate, baseline)
    shown = examples.exemplars(chosen, pictures, answered, head)
    if thumbnails and setup.dataset is not None and setup.data.embeddings is None:
        return examples.with_thumbnails(shown, chosen, pictures, setup.dataset)
    return shown


def _model_name(setup: Setup) -> str | None:
    """Return the model that embedded the pictures, as far as it is known."""
    head = setup.subject.head
    if setup.data.embeddings is not None:
        made_with = None if head is None else head.about.get("model")
        return interchange.model_of(setup.data.embeddings) or made_with
    return setup.subject.embedder.encoder.name


def _told(setup: Setup, pictures: Pictures) -> list[str]:
    """Return what the user should be told of the pictures and of the model."""
    head, embedder = setup.subject.head, setup.subject.embedder
    idle = head is not None and setup.data.embeddings is not None  # the embedder had nothing to do
    notices = [] if idle else list(embedder.notices)
    texts = embedder.encoder.name if head is None else head.about.get("model")
    used = _model_name(setup)
    if texts and used and texts != used:
        notices.append(f"the texts are embedded with {texts}, the pictures with {used}")
    if pictures.unlabelled:
        notices.append(f"{pictures.unlabelled} embeddings have no label and are left out")
    return notices


def _check_packages() -> None:
    """Raise EvaluationError where a package of the extra is missing."""
    if missing := [name for name in ("scipy", "sklearn") if find_spec(name) is None]:
        raise EvaluationError(f"an evaluation needs {' and '.join(missing)}: pip install 'fieldmarks[eval]'")
