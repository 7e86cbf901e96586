"""What is looked for in a set: texts, images, a class, a descriptor, and what must not be there.

Each of them is a *term*: a vector whose cosine with an image is the term's score there, and the score that an
image needs to show it. For texts and classes that is the calibration's `near`. A descriptor competes with
those of the other classes: from its score, the mean of theirs is taken, and it has to beat four in five of
them on the image. An image is like another one if that is nearer to it than 39 of 40 images of the set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from fieldmarks.classification.embedder import Embedded, Embedder
from fieldmarks.classification.scoring import Array, Pooling, normalize
from fieldmarks.classification.sources import ImageInput
from fieldmarks.classification.texts import PRESETS, descriptor_texts
from fieldmarks.errors import ImageError, UsageError
from fieldmarks.retrieval.calibration import Calibration, rank_scores
from fieldmarks.retrieval.scan import Scan
from fieldmarks.store import Store
from fieldmarks.text import comparable

OTHERS: Final = 250  # descriptors of other classes that one competes with
RIVALS: Final = 500  # images of the set that an image competes with
_BEATEN: Final = 0.8  # of the other descriptors
_ALIKE: Final = 0.025  # of the images

Kind = Literal["text", "image", "class", "descriptor"]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """Something to look for: its vector (D,) of unit length, and what it competes with (M, D), if anything.

    `contrast` (D,) is taken from the vector before scores are standardised.
    """

    kind: Kind
    name: str
    vector: Array
    is_excluded: bool = False
    rivals: Array | None = None
    contrast: Array | None = None

    @property
    def wording(self) -> str:
        """The term in words: what an image shows, as in "'snow'", "not 'people'", "the class 'newt'"."""
        before = {"text": "", "image": "a likeness of ", "class": "the class ", "descriptor": ""}[self.kind]
        return f"{'not ' if self.is_excluded else ''}{before}{self.name!r}"

    def threshold(self, scan: Scan, calibration: Calibration) -> Array:
        """Return the cosine that each image (N,) needs to show this."""
        if self.rivals is None:
            return calibration.near
        share = 1 - _BEATEN if self.kind == "descriptor" else _ALIKE
        rank = max(1, round(share * len(self.rivals)))
        found = rank_scores(scan, self.rivals, rank, calibration.inverse)
        return np.maximum(found, calibration.likely) if self.kind == "descriptor" else found


def text_terms(texts: Sequence[str], embedder: Embedder, *, is_excluded: bool = False) -> list[Term]:
    """Return terms of texts. Raises UsageError for an empty one."""
    if blank := [text for text in texts if not text.strip()]:
        raise UsageError(f"a text to search for is empty: {blank[0]!r}")
    if not texts:
        return []
    vectors = normalize(embedder.texts(texts))  # (T, D)
    return [Term("text", text, row, is_excluded) for text, row in zip(texts, vectors, strict=True)]


def image_terms(images: Sequence[ImageInput], embedder: Embedder, scan: Scan) -> list[Term]:
    """Return terms of images, which compete with those of the set. Raises ImageError."""
    terms = []
    for result in embedder.images(images):
        if not isinstance(result, Embedded):
            raise ImageError(f"{result.image}: {result.error}")
        places = np.linspace(0, scan.rows - 1, min(RIVALS, scan.rows)).round().astype(int).tolist()
        rivals = normalize(scan.at(places))  # (RIVALS, D)
        terms.append(Term("image", result.image, normalize(result.vector[None])[0], rivals=rivals))
    return terms


def class_term(name: str, store: Store, embedder: Embedder) -> Term:
    """Return the term of a class, by the vector that classifies. Raises UsageError for no such class."""
    classes = _classes(store)
    own = {name: classes[_named(name, classes, store)]}
    texts = descriptor_texts(own, PRESETS["article"].template)
    embeddings = embedder.texts(texts.texts)  # (M, D)
    weights = Pooling.named("mean-embedding").class_weights(
        embeddings, np.zeros(len(embeddings), np.int64), 1
    )
    assert weights is not None
    return Term("class", name, weights[0])


def descriptor_term(descriptor: str, store: Store, embedder: Embedder) -> Term:
    """Return the term of a descriptor of a store. Raises UsageError for one that no class has."""
    classes = _classes(store)
    key = comparable(descriptor)
    owners = {name for name, own in classes.items() if key in map(comparable, own)}
    if not owners:
        raise UsageError(
            f"no class of {store.name} has the descriptor {descriptor!r:.80}: see `fieldmarks store grep`, or"
            " search for it as a text"
        )
    others = dict.fromkeys(text for name, own in classes.items() if name not in owners for text in own)
    if not others:
        raise UsageError(
            f"{store.name} has no other class whose descriptors could be compared with {descriptor!r:.80}:"
            " search for it as a text"
        )
    vectors = normalize(embedder.texts([descriptor, *others]))  # (1 + M, D)
    places = np.linspace(1, len(others), min(OTHERS, len(others))).round().astype(int)
    contrast: Array = vectors[1:].mean(axis=0, dtype=np.float64).astype(np.float32)
    return Term("descriptor", descriptor, vectors[0], rivals=vectors[places], contrast=contrast)


def _classes(store: Store) -> Mapping[str, Sequence[str]]:
    return {entry.name: entry.descriptors for entry in store.entries()}


def _named(name: str, classes: Mapping[str, Sequence[str]], store: Store) -> str:
    if name not in classes:
        alike = [other for other in classes if comparable(other) == comparable(name)]
        if len(alike) != 1:
            raise UsageError(
                f"{store.name} has no class {name!r:.80}: see `fieldmarks store list {store.name}`"
            )
        return alike[0]
    return name
