"""Small sets with a model to search them, made of the demo's drawings."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.embedder import Embedded, Embedder, Encoder
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import demo_species


@dataclass(frozen=True)
class World:
    """The demo's model, and `per_species` drawings of each of its species in a folder of their own."""

    folder: Path
    clip: Path
    per_species: int = 8

    @cached_property
    def embedder(self) -> Embedder:
        return Embedder(Encoder(self.clip, device="cpu", dtype="float32", engine="torch"))

    @cached_property
    def images(self) -> list[Path]:
        paths = []
        for name, creature in demo_species().items():
            for number in range(self.per_species):
                path = self.folder / "pictures" / name / f"{number:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(creature, random.Random(f"search {name} {number}")).save(path)
                paths.append(path)
        return paths

    def write(self, out: Path, images: Iterable[Path] | None = None) -> Path:
        """Embed the images, all of the world by default, as a set."""
        paths = map(str, self.images if images is None else images)
        with SetWriter(out, self.embedder.encoder.provenance) as writer:
            for result in writer.take(self.embedder.images(paths)):
                assert isinstance(result, Embedded), result
        return out


def species_of(image: str) -> str:
    """Return the species that an image of the world shows."""
    return Path(image).parent.name


def unit(rows: Any) -> NDArray[np.float32]:
    """Return rows of unit length."""
    array = np.asarray(rows, np.float32)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)
