"""Whether two engines agree: the largest cosine error between their embeddings of the same inputs."""

from typing import Final

import numpy as np

from fieldmarks.classification.scoring import Array

TOLERANCE: Final = {"float32": 1e-5, "bfloat16": 1e-4}  # cosine error against torch's float32


def cosine_error(one: Array, other: Array) -> float:
    """Return the largest 1 - cosine between rows of two (N, D); infinite for other shapes or no numbers."""
    if one.shape != other.shape:
        return float("inf")
    one, other = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(all="ignore"):  # what divides by zero or overflows is no number
        lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)  # (N,)
        errors = np.abs(1 - (one * other).sum(axis=-1) / lengths)
    return float(errors.max(initial=0.0)) if np.isfinite(errors).all() else float("inf")
