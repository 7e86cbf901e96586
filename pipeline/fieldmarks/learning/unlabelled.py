"""A threshold without labels: what the best of as many classes of random words scores on the same images.

The words of every text are replaced by random ones (the class's name, and each descriptor), everything else
of the classifier stays: the number of texts, their pooling, learned weights and biases. What the best class
of such texts scores on an image says nothing of the image. The threshold is the score that it exceeds on a
share LEVEL of the user's own images, over several draws of words. A label whose score is lower fits no
better than random words sometimes do; one above it may be wrong all the same, and how many right ones are
under it is not known. So it is weaker than thresholds from labelled images.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from fieldmarks.classification.embedder import Embedder
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.texts import random_texts
from fieldmarks.errors import EvaluationError
from fieldmarks.learning.model import Floats
from fieldmarks.text import counted

LEVEL: Final = 0.05  # the share of images on which random words may exceed the threshold
DRAWS: Final = 5
FEWEST: Final = 20  # images


def random_wording(head: Head, draw: int) -> list[str]:
    """Return the head's texts with random words in the place of the class names and the descriptors."""
    texts = head.texts
    words = random_texts(len(texts.classes) + len(texts.texts), f"unlabelled {draw}")
    names, phrases = words[: len(texts.classes)], words[len(texts.classes) :]
    drawn = []
    for text, descriptor, owner, phrase in zip(
        texts.texts, texts.descriptors, texts.owner, phrases, strict=True
    ):
        name = texts.classes[owner].replace("_", " ")
        if text == descriptor and name.casefold() not in text.casefold():
            drawn.append(phrase)
            continue
        before, found, after = text.rpartition(descriptor) if text != descriptor else (text, "", "")
        drawn.append(_renamed(before, name, names[owner]) + (phrase if found else "") + after)
    return drawn


def _renamed(text: str, name: str, other: str) -> str:
    at = text.casefold().find(name.casefold())
    return text if at < 0 else text[:at] + other + text[at + len(name) :]


def best_scores(head: Head, vectors: Array) -> Floats:
    """Return the best class's score (n,) of each image (n, D), before the scale."""
    best: Floats = (head.logits(vectors).max(axis=1) / np.float32(head.scale)).astype(np.float64)
    return best


def threshold(head: Head, embedder: Embedder, vectors: Array) -> float:
    """Return the threshold for images (n, D). Raises EvaluationError for too few, ModelError."""
    if len(vectors) < FEWEST:
        raise EvaluationError(
            f"found {counted(len(vectors), 'image')}, too few for a threshold: at least {FEWEST} are needed"
        )
    drawn = [
        best_scores(replace(head, embeddings=embedder.texts(random_wording(head, draw))), vectors)
        for draw in range(DRAWS)
    ]
    return float(np.quantile(np.concatenate(drawn), 1 - LEVEL))
