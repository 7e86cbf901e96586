"""Engines: the frameworks that can compute a CLIP-like model's two functions, behind one protocol.

Beside it how work is cut into passes through one: batches of images, and texts by length.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np

from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import Array

if TYPE_CHECKING:
    from PIL import Image

    from fieldmarks.classification.jpeg import Jpeg

Out = TypeVar("Out")

TOKENIZED: Final = 1024  # texts that are tokenized, and padded to the length of the longest, together


class Engine(Protocol):
    """A model's two encoders and their preprocessing, loaded on first use.

    Everything raises ModelError for a model that cannot do it, and may be called from several threads.
    """

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines, exp(logit_scale)."""

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have, the special ones included."""

    @property
    def recipe(self) -> Recipe | None:
        """The preprocessing as a recipe; None where only the model's own processor can do it."""

    @property
    def min_side(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded; None: as it is."""

    def largest_batch(self, most: int) -> int:
        """Return how many images, at most `most`, a pass may have for the device's free memory."""

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, the special ones included, before any cutting."""

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts; those over the model's length are cut."""

    def prepare(self, image: "Image.Image") -> Any:
        """Return what `images` reads of one RGB image."""

    def decode(self, jpegs: "Sequence[Jpeg]") -> list[Any]:
        """Return what `start_images` reads of JPEGs, decoded on the device; None for one that cannot be."""

    def start_images(self, prepared: Sequence[Any]) -> Callable[[], Array]:
        """Start a pass over N prepared images; return what waits for their embeddings (N, D).

        A device that computes by itself does so while the next pass is prepared; a CPU computes at once.
        """


def defect_of(embeddings: Array, dtype: str) -> str | None:
    """Return what is wrong with embeddings (N, D) of a model and what to do, or None for good ones."""
    if not np.isfinite(embeddings).all():
        remedy = "download it again" if dtype == "float32" else "try --dtype float32"
        return f"with NaN or infinity: {remedy}"
    if not embeddings.any(axis=-1).all():
        return "that are all zeros: its weights are missing or damaged, download it again"
    return None


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield passes over texts, each a list of their numbers: neighbours in length, at least one of them.

    Padded to its longest text, a pass has at most `budget` tokens.
    """
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[row] > budget:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def encoded_by_length(
    texts: Sequence[str], lengths: Sequence[int], budget: int, encode: Callable[[list[str]], Array]
) -> Array:
    """Return the embeddings (M, D) of texts that are encoded in passes of neighbours in length."""
    passes = list(by_length(lengths, budget))
    embeddings = np.concatenate([encode([texts[row] for row in rows]) for rows in passes])
    embeddings[np.concatenate(passes)] = embeddings.copy()
    return embeddings


def batched(items: Iterable[Out], size: int) -> Iterator[list[Out]]:
    """Yield lists of `size` items, the last one perhaps shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
