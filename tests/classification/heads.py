"""Heads of made-up texts, for tests of the arithmetic as it is used."""

from fieldmarks.choices import Aggregation
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, Indices, Pooling
from fieldmarks.classification.texts import Texts


def head_of(
    texts: Array,
    owner: Indices,
    classes: int,
    scale: float,
    aggregation: Aggregation,
    baseline: Array | None = None,
) -> Head:
    """Return the head of texts (M, D) and their owners (M,)."""
    names = tuple(f"class {number}" for number in range(classes))
    marks = tuple(f"mark {row}" for row in range(len(owner)))
    own = Texts(names, tuple(owner.tolist()), marks, marks)
    return Head(own, texts, scale, Pooling.named(aggregation), baseline)


def class_logits(
    images: Array, texts: Array, owner: Indices, classes: int, scale: float, aggregation: Aggregation
) -> Array:
    """Return the class logits (N, C) of images (N, D)."""
    return head_of(texts, owner, classes, scale, aggregation).logits(images)
