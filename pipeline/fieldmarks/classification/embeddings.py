"""Embeddings of texts and pictures: encoded in batches while the next pictures are decoded in threads.

At most a window of pictures is in memory, so a stream of any length runs in constant memory.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from fieldmarks.classification.cache import EmbeddingCache, key_of
from fieldmarks.classification.encoder import Encoder
from fieldmarks.classification.fetch import Url
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Picture, name_of, read
from fieldmarks.errors import ImageError

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture's name, its embedding (D,), and a small JPEG of it where one was asked for."""

    image: str
    vector: Array
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A picture on its way: an embedding that was kept, or what the model will read."""

    image: str
    key: bytes | None
    vector: Array | None
    inputs: Any  # None with an embedding
    thumbnail: bytes | None


class Embedder:
    """Embeddings by one encoder: each text once, pictures in batches, and none again that `cache` holds."""

    def __init__(
        self, encoder: Encoder, *, cache: EmbeddingCache | None = None, batch: int | None = None
    ) -> None:
        self.encoder = encoder
        self._batch = batch
        self._cache = cache
        self._notices: list[str] = []
        self._used = False  # whether embeddings were computed here, or taken from the cache

    @property
    def batch(self) -> int:
        """How many pictures a pass has."""
        return self._batch or self.encoder.batch

    @property
    def notices(self) -> list[str]:
        """What the user should be told of the computing, of texts and of the cache."""
        how = self.encoder.notices if self._used else []
        return [*how, *self._notices, *(self._cache.notices if self._cache else [])]

    @cached_property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines."""
        keys = [self._key("logit_scale", "")]
        kept = self._kept(keys, lambda _: np.array([[self.encoder.logit_scale]], np.float32))  # (1, 1)
        return float(kept[0, 0])

    def texts(self, texts: Iterable[str]) -> Array:
        """Return the embeddings (M, D) of M texts; equal texts are encoded once, long ones are told of."""
        texts = list(texts)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        listed = list(distinct)
        keys = [self._key("text and cut", text) for text in listed]
        rows = self._kept(keys, lambda missing: self._encode_texts([listed[row] for row in missing]))
        self._tell_of_cut(listed, rows[:, -1])
        return rows[[distinct[text] for text in texts], :-1]

    def _encode_texts(self, texts: list[str]) -> Array:
        """Return embeddings (M, D + 1), the last number of each where the model cuts the text, or 0.

        It is kept with the embedding so that every run can tell of cut texts without the tokenizer.
        """
        most = self.encoder.max_tokens
        cut = [most if tokens > most else 0 for tokens in self.encoder.token_counts(texts)]
        return np.column_stack([self.encoder.encode_texts(texts), np.array(cut, np.float32)])

    def _tell_of_cut(self, texts: list[str], cut: Array) -> None:
        long = [text for text, at in zip(texts, cut, strict=True) if at]
        if long:
            texts_are = "1 text is" if len(long) == 1 else f"{len(long)} texts are"
            self._notices.append(
                f"{texts_are} longer than the {cut.max():.0f} tokens {self.encoder.name} reads"
                f" and cut there: {long[0]!r:.60}"
            )

    def images(
        self, pictures: Iterable[Picture | Url | Failure], *, thumbnails: int = 0
    ) -> Iterator[Embedded | Failure]:
        """Yield an embedding for each picture in their order, or a Failure for one that cannot be read.

        A Failure among the pictures passes through. The first `thumbnails` pictures come with a small copy.
        """
        named = ((number, name_of(picture, number), picture) for number, picture in enumerate(pictures, 1))
        prepared = ahead(
            lambda one: self._prepare(*one[1:], small=one[0] <= thumbnails), named, window=2 * self.batch
        )
        for batch in batched(prepared, self.batch):
            yield from self._encode(batch)

    def _prepare(self, name: str, picture: Picture | Url | Failure, *, small: bool) -> _Prepared | Failure:
        if isinstance(picture, Failure):
            return picture
        try:
            data = read(picture)
            key = None if data is None else self._key("image", hashlib.sha256(data).digest())
            vector = self._cache.get([key]).get(key) if self._cache and key else None
            if vector is not None and not small:
                return _Prepared(name, key, vector, None, None)
            from fieldmarks.classification import images  # which loads Pillow

            least = self._least(small, encoded=vector is None)
            image = images.from_memory(picture) if data is None else images.decode(data, least=least)
            inputs = self.encoder.prepare(image) if vector is None else None
            return _Prepared(name, key, vector, inputs, images.thumbnail(image) if small else None)
        except ImageError as error:
            return Failure(name, str(error))

    def _least(self, small: bool, *, encoded: bool) -> int | None:
        """Return how short the shorter side of a JPEG may become while it is decoded; None: as it is."""
        from fieldmarks.classification.images import THUMBNAIL

        least = self.encoder.least if encoded else 0
        return least if least is None else max(least, THUMBNAIL if small else 0)

    def _encode(self, batch: list[_Prepared | Failure]) -> Iterator[Embedded | Failure]:
        """Run the pictures of a batch that have no embedding yet through the model, in one pass."""
        missing = [one for one in batch if isinstance(one, _Prepared) and one.inputs is not None]
        fresh = self.encoder.encode_images([one.inputs for one in missing]) if missing else ()
        if self._cache:
            self._cache.put({one.key: row for one, row in zip(missing, fresh, strict=True) if one.key})
        vectors = iter(fresh)
        self._used |= any(isinstance(one, _Prepared) for one in batch)
        for one in batch:
            if isinstance(one, Failure):
                yield one
            else:
                yield Embedded(one.image, next(vectors) if one.vector is None else one.vector, one.thumbnail)

    def _kept(self, keys: list[bytes | None], encode: Callable[[list[int]], Array]) -> Array:
        """Return a row for each key: from the cache, or from `encode`, given the missing rows' numbers."""
        self._used = True
        found = self._cache.get([key for key in keys if key]) if self._cache else {}
        missing = [row for row, key in enumerate(keys) if key is None or key not in found]
        fresh: dict[int, Array] = dict(zip(missing, encode(missing), strict=True)) if missing else {}
        if self._cache:
            self._cache.put({key: fresh[row] for row, key in enumerate(keys) if key and row in fresh})
        return np.stack([fresh[row] if row in fresh else found[key or b""] for row, key in enumerate(keys)])

    def _key(self, kind: str, content: str | bytes) -> bytes | None:
        return key_of(self.fingerprint, kind, content) if self.fingerprint else None

    @cached_property
    def fingerprint(self) -> str | None:
        """What tells this model from others; None without a cache, or before the model's first download."""
        return self.encoder.fingerprint if self._cache else None


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
