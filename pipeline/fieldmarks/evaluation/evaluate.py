"""Pictures worth showing: where descriptors and the plain prompt disagree, and where both are wrong.

One evaluation: the arms on the same pictures, the figures, what they say, and what is worth showing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Prediction
from fieldmarks.classification.scoring import Pooling
from fieldmarks.classification.sources import Picture, read
from fieldmarks.data import DataSet, Example
from fieldmarks.errors import EvaluationError, ImageError
from fieldmarks.evaluation import ablation
from fieldmarks.evaluation.arms import Arm, Wanted
from fieldmarks.evaluation.candidate import Subject
from fieldmarks.evaluation.experiment import Setup, settings
from fieldmarks.evaluation.metrics import Answered, figures
from fieldmarks.evaluation.predictions import Pictures, Progress, answer, scorer_of
from fieldmarks.evaluation.results import ArmResult, Effect, Evaluation, Exemplar
from fieldmarks.evaluation.summary import is_described, sentences

if TYPE_CHECKING:
    from PIL import Image


MOST: Final = 24
CLASSES_SHOWN: Final = 5  # of each picture


def choose(described: Answered, baseline: Answered | None, labels: NDArray[np.int32]) -> list[int]:
    """Return the pictures to show, at most MOST: as many of each kind as there are, class after class.

    The kinds are: only descriptors right, only the baseline right, both wrong. Without a baseline, those
    that descriptors get wrong.
    """
    right = described.hits()[0]
    kinds = [~right]
    if baseline is not None:
        plain = baseline.hits()[0]
        kinds = [right & ~plain, plain & ~right, ~right & ~plain]
    turns = zip_longest(*(_class_after_class(kind, labels) for kind in kinds))
    return sorted([one for one in chain.from_iterable(turns) if one is not None][:MOST])


def _class_after_class(kind: NDArray[np.bool_], labels: NDArray[np.int32]) -> list[int]:
    """Return the pictures of a kind: the first of each class, then the second of each, and so on."""
    seen: dict[int, int] = {}
    keyed = []
    for picture in np.flatnonzero(kind).tolist():
        label = int(labels[picture])
        seen[label] = seen.get(label, 0) + 1
        keyed.append((seen[label], label, picture))
    return [picture for *_, picture in sorted(keyed)]


def exemplars(
    chosen: Sequence[int], pictures: Pictures, answered: Sequence[Answered], head: Head
) -> list[Exemplar]:
    """Return the chosen pictures with what each arm's first run says, scores and marks."""
    rows = pictures.vectors[chosen]
    scored = zip(chosen, rows, head.scores(rows, CLASSES_SHOWN), head.baseline_scores(rows), strict=True)
    return [
        Exemplar(
            head.classes[pictures.labels[picture]],
            {arm.name: head.classes[arm.runs[0].predicted[picture]] for arm in answered},
            Prediction(
                pictures.images[picture],
                scores[0].name,
                scores,
                baseline,
                head.explain(vector, scores),
            ),
        )
        for picture, vector, scores, baseline in scored
    ]


def with_thumbnails(
    shown: Sequence[Exemplar], chosen: Sequence[int], pictures: Pictures, dataset: DataSet
) -> list[Exemplar]:
    """Return the examples with small copies of their pictures, which are read again for it."""
    place = {pictures.places[picture]: number for number, picture in enumerate(chosen)}
    found = dict(_copies(dataset, place))
    return [
        replace(one, prediction=replace(one.prediction, thumbnail=found.get(number)))
        for number, one in enumerate(shown)
    ]


def _copies(dataset: DataSet, place: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """Yield the small copies of the pictures at some places of a data set, by what `place` calls them."""
    from fieldmarks.classification.images import thumbnail

    for number, one in enumerate(islice(dataset, max(place, default=-1) + 1)):
        if number in place and isinstance(one, Example):
            with suppress(ImageError):  # a file that has changed since
                yield place[number], thumbnail(_image(one.picture))


def _image(picture: Picture) -> "Image.Image":
    from fieldmarks.classification import images

    data = read(picture)
    return images.from_memory(picture) if data is None else images.decode(data)


TEXTS_SHOWN: Final = 3  # of each arm
BASELINES: Final = ("photo", "name")  # what other arms are compared with, the first that is there


def evaluate(
    setup: Setup,
    wanted: Wanted,
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
    if ablate:
        _check_ablation(arms, subject)
    pictures = setup.pictures(tell)
    main = _main(arms, subject)
    arms = [main if main and arm.name == main.name else arm for arm in arms]
    answered = [_answered(arm, subject, pictures) for arm in arms]
    results = _results(answered, pictures, len(subject.classes))
    return Evaluation(
        settings=settings(setup, wanted, more or {}),
        classes=tuple(subject.classes),
        images=pictures.images,
        labels=pictures.labels,
        arms=results,
        summary=sentences(results),
        notices=(*setup.notices, *left_out, *setup.caveats(pictures)),
        failures=pictures.failures,
        effects=_effects(main, subject, pictures) if ablate and main else (),
        examples=_examples(main, setup, pictures, answered, thumbnails) if main else (),
    )


def _main(arms: Sequence[Arm], subject: Subject) -> Arm | None:
    """Return the first arm that reads descriptors, with its embeddings, which are used several times."""
    main = next((arm for arm in arms if is_described(arm.name)), None)
    if main is None:
        return None
    draw = main.draws[0]
    return replace(main, draws=(replace(draw, rows=subject.rows(draw)),))


def _results(answered: Sequence[Answered], pictures: Pictures, classes: int) -> tuple[ArmResult, ...]:
    baseline = next((arm for name in BASELINES for arm in answered if arm.name == name), None)
    return tuple(
        figures(arm, pictures.labels, classes, None if arm is baseline else baseline) for arm in answered
    )


def _answered(arm: Arm, subject: Subject, pictures: Pictures) -> Answered:
    """Return what an arm's draws answer; only one draw's embeddings are in memory."""
    runs = []
    for draw in arm.draws:
        scorer = scorer_of(draw.texts, subject.rows(draw), arm.aggregate)
        runs.append(answer(pictures.vectors, pictures.labels, scorer, draw.seed))
    return Answered(
        name=arm.name,
        text=arm.text,
        aggregate=arm.aggregate,
        texts=arm.draws[0].texts.texts[:TEXTS_SHOWN],
        runs=tuple(runs),
    )


def _check_ablation(arms: Sequence[Arm], subject: Subject) -> None:
    """Raise EvaluationError, before pictures are read, where no descriptor can be left out."""
    if not any(is_described(arm.name) for arm in arms):
        raise EvaluationError("there is nothing to ablate without the arm descriptors")
    if len(subject.classes) < 2:
        raise EvaluationError(ablation.ALONE)
    if subject.head is not None:
        subject.names()


def _effects(main: Arm, subject: Subject, pictures: Pictures) -> tuple[Effect, ...]:
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
    chosen = choose(by_name[main.name], by_name.get("photo"), pictures.labels)
    subject = setup.subject
    baseline = subject.names() if "photo" in by_name else None
    draw = main.draws[0]
    head = Head(draw.texts, subject.rows(draw), subject.logit_scale, Pooling.named(main.aggregate), baseline)
    shown = exemplars(chosen, pictures, answered, head)
    if thumbnails and setup.dataset is not None and setup.data.embeddings is None:
        return with_thumbnails(shown, chosen, pictures, setup.dataset)
    return shown


def _check_packages() -> None:
    """Raise EvaluationError where a package of the extra is missing."""
    if missing := [name for name in ("scipy", "sklearn") if find_spec(name) is None]:
        raise EvaluationError(f"an evaluation needs {' and '.join(missing)}: pip install 'fieldmarks[eval]'")
