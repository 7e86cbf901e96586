"""What an engine is: a model made ready to compute by one framework, texts and images to embeddings.

Two engines agree where the largest cosine error between their embeddings of the same inputs is small.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from fieldmarks.classification.scoring import Array

if TYPE_CHECKING:
    from PIL import Image


class Engine(Protocol):
    """A model's two functions, and what prepares their inputs; loads what it needs when it is needed.

    Everything raises ModelError for a model that cannot do it, and may be called from several threads.
    """

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines, exp(logit_scale)."""

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have, the special ones included."""

    @property
    def pads_to_full_length(self) -> bool:
        """Whether the model was trained on texts padded to `max_tokens`; a shorter one changes the result."""

    @property
    def least(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded; None: as it is."""

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, the special ones included, before any cutting."""

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts in one pass; those over the model's length are cut."""

    def prepare(self, image: "Image.Image") -> Any:
        """Return what `images` reads of one RGB image."""

    def images(self, prepared: Sequence[Any]) -> Array:
        """Return the embeddings (N, D) of N prepared images in one pass."""


TOLERANCE: Final = {"float32": 1e-5, "bfloat16": 1e-4}  # cosine error against torch's float32


def cosine_error(ours: Array, theirs: Array) -> float:
    """Return the largest 1 - cosine between rows of two (N, D); infinite for other shapes or no numbers."""
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(all="ignore"):  # what divides by zero or overflows is no number
        lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)  # (N,)
        errors = np.abs(1 - (ours * theirs).sum(axis=-1) / lengths)
    return float(errors.max(initial=0.0)) if np.isfinite(errors).all() else float("inf")
