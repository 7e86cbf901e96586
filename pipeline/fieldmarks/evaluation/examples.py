"""Pictures worth showing: where descriptors and the plain prompt disagree, and where both are wrong."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Prediction
from fieldmarks.classification.sources import Picture, read
from fieldmarks.errors import ImageError
from fieldmarks.evaluation.data import DataSet, Example
from fieldmarks.evaluation.metrics import Answered
from fieldmarks.evaluation.pictures import Pictures
from fieldmarks.evaluation.results import Exemplar

if TYPE_CHECKING:  # which loads Pillow
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
