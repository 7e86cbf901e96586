"""Drawings of random creatures to train on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import WORDINGS, Creature, demo_species, random_creature


@dataclass(frozen=True, slots=True)
class Drawings:
    """Pixels (N, 3, H, W) uint8 and, for every attribute, the index of the value shown, (N, 8) int64."""

    pixels: torch.Tensor
    values: torch.Tensor


def unseen_creatures(count: int, seed: int) -> list[Creature]:
    """Random creatures, none of which looks like a species of the demo."""
    rng = random.Random(seed)
    held_out = set(demo_species().values())
    drawn = (random_creature(rng) for _ in range(count + count // 10 + len(held_out)))
    return [creature for creature in drawn if creature not in held_out][:count]


def draw_all(creatures: Sequence[Creature], size: int, resample: int, seed: int) -> Drawings:
    """A drawing of each creature, reduced to `size` pixels a side by the image processor's resampling."""
    rng = random.Random(seed)
    pixels = np.empty((len(creatures), size, size, 3), dtype=np.uint8)
    for row, creature in enumerate(creatures):
        image = draw(creature, rng).resize((size, size), Image.Resampling(resample))
        pixels[row] = np.asarray(image)
    values = [value_indices(creature) for creature in creatures]
    return Drawings(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(values))


def value_indices(creature: Creature) -> list[int]:
    """For each attribute, the index of the creature's value in WORDINGS."""
    return [list(WORDINGS[attribute]).index(value) for attribute, value in creature.traits()]
