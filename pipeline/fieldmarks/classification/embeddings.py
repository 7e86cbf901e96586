"""Embeddings of texts and pictures: encoded in batches while the next pictures are decoded in threads.

At most a window of pictures is in memory, so a stream of any length runs in constant memory.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from fieldmarks.classification import images
from fieldmarks.classification.encoder import Encoder
from fieldmarks.classification.images import Picture
from fieldmarks.classification.results import Failure
from fieldmarks.errors import ImageError

BATCH = 32  # pictures per forward pass

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture's name and its embedding (D,)."""

    image: str
    vector: Tensor


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A picture on its way: what the model will read of it."""

    image: str
    inputs: dict[str, Tensor]


class Embedder:
    """Embeddings by one encoder: each text once, pictures in batches."""

    def __init__(self, encoder: Encoder, *, batch: int = BATCH) -> None:
        self.encoder = encoder
        self.batch = batch

    def texts(self, texts: Iterable[str]) -> Tensor:
        """Return the embeddings (M, D) of M texts; equal texts are encoded once."""
        texts = list(texts)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        return self.encoder.encode_texts(list(distinct))[[distinct[text] for text in texts]]

    def images(self, pictures: Iterable[Picture | Failure]) -> Iterator[Embedded | Failure]:
        """Yield an embedding for each picture in their order, or a Failure for one that cannot be read.

        A Failure among the pictures passes through.
        """
        named = ((name_of(picture, number), picture) for number, picture in enumerate(pictures, 1))
        prepared = ahead(lambda one: self._prepare(*one), named, window=2 * self.batch)
        for batch in batched(prepared, self.batch):
            yield from self._encode(batch)

    def _prepare(self, name: str, picture: Picture | Failure) -> _Prepared | Failure:
        if isinstance(picture, Failure):
            return picture
        try:
            return _Prepared(name, self.encoder.prepare(open_picture(picture)))
        except ImageError as error:
            return Failure(name, str(error))

    def _encode(self, batch: list[_Prepared | Failure]) -> Iterator[Embedded | Failure]:
        whole = [one for one in batch if isinstance(one, _Prepared)]
        vectors = iter(self.encoder.encode_images([one.inputs for one in whole]) if whole else ())
        return (one if isinstance(one, Failure) else Embedded(one.image, next(vectors)) for one in batch)


def name_of(picture: Picture | Failure, number: int) -> str:
    """Return a picture's name: its path, or its place in the run for one that comes without."""
    if isinstance(picture, str | os.PathLike):
        return os.fsencode(picture).decode("utf-8", "backslashreplace")
    return f"picture {number}"


def open_picture(picture: Picture) -> Image.Image:
    """Return any kind of picture as an upright RGB image. Raises ImageError."""
    if isinstance(picture, str | os.PathLike):
        return images.decode(images.read_bytes(Path(picture)))
    if isinstance(picture, Image.Image):
        return images.to_rgb(picture)
    if isinstance(picture, np.ndarray | Tensor):
        return images.from_array(picture)
    raise ImageError(f"a {type(picture).__name__} is no picture: a path, PIL image, array or tensor is meant")


def ahead(function: Callable[[In], Out], items: Iterable[In], *, window: int) -> Iterator[Out]:
    """Yield function(item) in the items' order, computed in threads, at most `window` items ahead."""
    items = iter(items)
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="fieldmarks")
    waiting: deque[Future[Out]] = deque()
    try:
        waiting.extend(pool.submit(function, item) for item in islice(items, window))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batched(items: Iterable[Out], size: int) -> Iterator[list[Out]]:
    """Yield lists of `size` items, the last one perhaps shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
