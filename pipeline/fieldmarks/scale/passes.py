"""Passes: the images of one forward pass on their way through processes, as plain bytes and JSON.

A block of images is cut into passes of as many images as the model takes at once. `decoded` makes them, on
any machine and without the model's weights; `encoded` computes the embeddings, with `Encoder.encode_images`
as on one machine; an `Assembly` puts the blocks together again, in whatever order their passes arrive. The
images of a pass are those that one process would put into one forward pass, so that their embeddings are
the same to the last bit where processor, engine and threads are.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from fieldmarks.classification.embedder import Embedded, Encoder
from fieldmarks.classification.engines import batched
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Blob, read_stamped
from fieldmarks.errors import ImageError, ModelError
from fieldmarks.scale.blocks import Block, SourceError, read

Row = dict[str, Any]  # a pass as it travels; its values are numbers, texts and bytes

_NO_FILE: Final = (None, None, None)
_REFUSED: Final = -1  # the number of no block


@dataclass(frozen=True, slots=True)
class Files:
    """Image files as a block: each by the name that it has in the set, and by its path."""

    files: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """How messages call the block."""
        return self.files[0][0]


Source = Block | Files


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """All that decoding needs of a model: its recipe, and how short a JPEG's side may become."""

    recipe: Recipe
    min_side: int | None

    @classmethod
    def of(cls, encoder: Encoder) -> "Preprocessing":
        """Return an encoder's, without loading its weights. Raises ModelError where there is none."""
        if encoder.decoding == "gpu":
            raise ModelError("images are decoded in other processes here, not by a GPU: leave out decode")
        recipe = encoder.checkpoint.recipe
        if recipe is None:
            raise ModelError(
                f"{encoder.name} prepares images in a way that other processes cannot repeat: embed without"
                " --on, in one process"
            )
        return cls(recipe, None if encoder.decoding == "full" else recipe.min_side)


def to_row(number: int, source: Source) -> Row:
    """Return a block as it travels, from which `decoded` makes its passes."""
    plain = json.dumps(asdict(source))  # orjson refuses paths that are not Unicode
    return {"block": number, "source": plain}


def decoded(
    row: Mapping[str, Any], preprocessing: Preprocessing, size: int, most: int | None = None
) -> Iterator[Row]:
    """Yield a block's passes of at most `size` images, ready for the model; `most` images of it in all.

    The last one says so. An image that cannot be read is an item with its error; of a block whose file cannot
    be had, the last pass has the `problem`.
    """
    plain = json.loads(row["source"])
    images: Iterator[tuple[str, Any]] = iter(plain.get("files", ()))
    if "url" in plain:
        images = (
            (image.name if isinstance(image, Blob) else image.image, image) for image in read(Block(**plain))
        )
    prepared = (_prepared(name, image, preprocessing) for name, image in islice(images, most))
    passes = batched(prepared, size)
    waiting: list[tuple[list[Any], Any]] = []
    number, problem = 0, None
    try:
        for items in passes:
            if waiting:
                yield _row(row["block"], number, waiting)
                number += 1
            waiting = items
    except SourceError as error:
        problem = str(error)
    yield _row(row["block"], number, waiting, last=True, problem=problem)


def refusal(problem: str) -> Row:
    """Return what takes the place of a pass where a worker cannot do its work at all."""
    return _row(_REFUSED, 0, [], last=True, problem=problem)


def is_refusal(row: Mapping[str, Any]) -> bool:
    """Whether a pass is none, but says why its worker cannot work."""
    return bool(row["block"] == _REFUSED)


def encoded(row: Mapping[str, Any], encoder: Encoder | None) -> Row:
    """Return a pass with the embeddings, float32, in the place of the pixels; a refusal needs no encoder."""
    shape = orjson.loads(row["shape"])
    vectors = np.empty((0, 0), np.float32)
    if encoder is not None and shape[0]:
        pixels = np.frombuffer(row["pixels"], np.uint8).reshape(shape)  # (N, H, W, 3)
        vectors = encoder.encode_images(list(pixels))  # (N, D)
    known = {key: row[key] for key in ("block", "number", "last", "problem", "items")}
    return known | {"vectors": vectors.astype("<f4").tobytes(), "dim": vectors.shape[1]}


@dataclass(slots=True)
class Assembly:
    """Passes of many blocks, until a block is complete; what it holds are embeddings, not images."""

    _passes: dict[int, dict[int, Mapping[str, Any]]] = field(default_factory=dict)

    def take(self, row: Mapping[str, Any]) -> tuple[int, list[Embedded | Failure], str | None] | None:
        """Take a pass; return number, rows and problem of the block that it completes, or None."""
        passes = self._passes.setdefault(row["block"], {})
        passes[row["number"]] = row
        last = next((number for number, entry in passes.items() if entry["last"]), None)
        if last is None or len(passes) <= last:
            return None
        del self._passes[row["block"]]
        rows = [result for number in range(last + 1) for result in _results(passes[number])]
        return row["block"], rows, passes[last]["problem"]


def _prepared(name: str, image: Any, preprocessing: Preprocessing) -> tuple[list[Any], Any]:
    """Return an image's name, digest, stamp and error, and its pixels (H, W, 3), None with an error."""
    from fieldmarks.classification import images

    if isinstance(image, Failure):
        return [name, None, _NO_FILE, image.error], None
    source = image if isinstance(image, Blob) else Path(image)
    try:
        data, stamp = read_stamped(source)
        assert data is not None
        with images.opened(source, data, min_side=preprocessing.min_side) as opened:
            pixels = preprocessing.recipe.pixels(opened)
    except ImageError as error:
        return [name, None, _NO_FILE, str(error)], None
    return [name, hashlib.sha256(data).hexdigest(), stamp or _NO_FILE, None], pixels


def _row(
    block: int,
    number: int,
    prepared: Iterable[tuple[list[Any], Any]],
    *,
    last: bool = False,
    problem: str | None = None,
) -> Row:
    listed = list(prepared)
    pixels = [part for _, part in listed if part is not None]
    stacked = np.stack(pixels) if pixels else np.empty((0, 0, 0, 3), np.uint8)  # (N, H, W, 3)
    return {
        "block": block,
        "number": number,
        "last": last,
        "problem": problem,
        "items": orjson.dumps([item for item, _ in listed]),
        "pixels": stacked.tobytes(),
        "shape": orjson.dumps(stacked.shape),
    }


def _results(row: Mapping[str, Any]) -> Iterator[Embedded | Failure]:
    dim = int(row["dim"])
    vectors: Array = np.frombuffer(row["vectors"], "<f4").reshape(-1, dim or 1)  # (N, D)
    fresh = iter(vectors)
    for name, digest, stamp, error in orjson.loads(row["items"]):
        if error is not None:
            yield Failure(name, error)
        else:
            version = FileVersion(digest, tuple(stamp) if stamp[0] is not None else None)
            yield Embedded(name, next(fresh), None, version)
