"""The losses of the demo's CLIP: which wordings mean the same, which values show, which image is meant.

Shapes: B images, A attributes, T texts (one for each value of each attribute), D joint dimensions.
"""

import torch
from torch.nn import functional

from fieldmarks.demo.species import WORDINGS

SIZES = tuple(len(values) for values in WORDINGS.values())
"""How many values each attribute has; their sum is T."""


def true_texts(values: torch.Tensor) -> torch.Tensor:
    """Convert value indices (B, A) to (B, T), with 1 where a text is true of an image."""
    columns = [functional.one_hot(values[:, a], size) for a, size in enumerate(SIZES)]
    return torch.cat(columns, dim=1).float()


def wording_loss(texts: torch.Tensor, others: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return InfoNCE between two wordings of each value, both (T, D): wordings meet, values stay apart.

    Without it, values that no image tells apart yet collapse, and then the images cannot learn to.
    """
    logits = scale * functional.normalize(texts, dim=1) @ functional.normalize(others, dim=1).T  # (T, T)
    return functional.cross_entropy(logits, torch.arange(len(texts)))


def attribute_loss(logits: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of values, summed over attributes; logits (B, T), values (B, A).

    It is a sum because a mean is drowned out by the other loss until most attributes are known.
    """
    parts = torch.split(logits, list(SIZES), dim=1)
    losses = [functional.cross_entropy(part, values[:, a]) for a, part in enumerate(parts)]
    return torch.stack(losses).sum()


def random_subsets(true: torch.Tensor, smallest: int, generator: torch.Generator) -> torch.Tensor:
    """Return (B, T) with 1 at a random subset, `smallest` to all, of each image's true texts."""
    count = len(SIZES)
    sizes = torch.randint(smallest, count + 1, (len(true), 1), generator=generator)  # (B, 1)
    ranks = torch.rand(len(true), count, generator=generator).argsort(dim=1)  # (B, A)
    chosen = (ranks < sizes).float().repeat_interleave(torch.tensor(SIZES), dim=1)  # (B, T)
    return true * chosen


def subset_loss(
    images: torch.Tensor, texts: torch.Tensor, true: torch.Tensor, chosen: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return InfoNCE of unit images (B, D) against the unit mean of their chosen texts.

    texts (T, D), true and chosen (B, T). The mean is over unnormalised projected embeddings, as in
    `mean-embedding`. Another image that the chosen traits describe just as well is not a negative.
    """
    counts = chosen.sum(dim=1)  # (B,)
    means = functional.normalize(chosen @ texts / counts[:, None], dim=1)  # (B, D)
    logits = scale * images @ means.T  # (B, B)
    described = (true @ chosen.T) >= counts[None, :]  # (B, B): is the whole column true of the row?
    itself = torch.eye(len(images), dtype=torch.bool)
    logits = logits.masked_fill(described & ~itself, float("-inf"))
    target = torch.arange(len(images))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
