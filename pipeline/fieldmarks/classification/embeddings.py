"""Embeddings of texts and pictures: encoded in batches while the next pictures are decoded in threads.

At most a window of pictures is in memory, so a stream of any length runs in constant memory.
"""

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fieldmarks.classification.cache import EmbeddingCache, key_of
from fieldmarks.classification.encoder import Encoder
from fieldmarks.classification.fetch import Url
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Picture, name_of, read_stamped
from fieldmarks.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture's name, its embedding (D,), a small JPEG where one was asked for, its file's version."""

    image: str
    vector: Array
    thumbnail: bytes | None = None
    version: FileVersion | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A picture on its way: an embedding that was kept, or what the model will read."""

    image: str
    key: bytes | None
    vector: Array | None
    inputs: Any  # None with an embedding
    thumbnail: bytes | None
    version: FileVersion | None


class Embedder:
    """Embeddings by one encoder: each text once, pictures in batches, and none again that `cache` holds."""

    def __init__(
        self, encoder: Encoder, *, cache: EmbeddingCache | None = None, batch: int | None = None
    ) -> None:
        self.encoder = encoder
        self._batch = batch
        self._cache = cache
        self._notices: list[str] = []
        self._dim: int | None = None  # D, once an embedding is known
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
        rows = self._rows(keys, lambda _: np.array([[self.encoder.logit_scale]], np.float32), 1)  # (1, 1)
        return float(rows[0, 0])

    def texts(self, texts: Iterable[str]) -> Array:
        """Return the embeddings (M, D) of M texts; equal texts are encoded once, long ones are told of."""
        texts = list(texts)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        listed = list(distinct)
        keys = [self._key("text and cut", text) for text in listed]
        size = None if self._dim is None else self._dim + 1
        rows = self._rows(keys, lambda missing: self._encode_texts([listed[row] for row in missing]), size)
        self._dim = rows.shape[1] - 1
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
        try:
            for batch in batched(prepared, self.batch):
                yield from self._encode(batch)
        finally:
            if self._cache:
                self._cache.save_uses()

    def _prepare(self, name: str, picture: Picture | Url | Failure, *, small: bool) -> _Prepared | Failure:
        if isinstance(picture, Failure):
            return picture
        try:
            data, stamp = read_stamped(picture)
            if data is None:
                key = version = None
            else:
                digest = hashlib.sha256(data)
                version = FileVersion(digest.hexdigest(), stamp)
                key = self._key(f"image, decoded {self.encoder.decoding}", digest.digest())
            vector = self._cached([key], self._dim).get(key) if key else None
            if vector is not None and not small:
                return _Prepared(name, key, vector, None, None, version)
            from fieldmarks.classification import images  # which loads Pillow

            def decoded(least: int | None) -> "Image":
                return images.from_memory(picture) if data is None else images.decode(data, least=least)

            image = inputs = None
            if vector is None:
                least = self.encoder.least
                image = decoded(least)
                inputs = self.encoder.prepare(image)
                if least is not None and least < images.THUMBNAIL:
                    image = None  # an embedding does not depend on whether a larger one is shown
            thumbnail = images.thumbnail(image or decoded(images.THUMBNAIL)) if small else None
            return _Prepared(name, key, vector, inputs, thumbnail, version)
        except ImageError as error:
            return Failure(name, str(error))

    def _encode(self, batch: list[_Prepared | Failure]) -> Iterator[Embedded | Failure]:
        """Run the pictures of a batch that have no embedding yet through the model, in one pass."""
        missing = [one for one in batch if isinstance(one, _Prepared) and one.inputs is not None]
        fresh = list(self.encoder.encode_images([one.inputs for one in missing])) if missing else []
        if self._cache:
            self._cache.put({one.key: row for one, row in zip(missing, fresh, strict=True) if one.key})
        if fresh:
            self._dim = len(fresh[0])
        vectors = iter(fresh)
        self._used |= any(isinstance(one, _Prepared) for one in batch)
        for one in batch:
            if isinstance(one, Failure):
                yield one
            else:
                vector = next(vectors) if one.vector is None else one.vector
                yield Embedded(one.image, vector, one.thumbnail, one.version)

    def _rows(
        self, keys: list[bytes | None], encode: Callable[[list[int]], Array], size: int | None
    ) -> Array:
        """Return a row for each key: from the cache, or from `encode`, given the missing rows' numbers.

        A row has `size` numbers; where that is not known yet, as many as most of those in the cache.
        """
        self._used = True
        cached = self._cached([key for key in keys if key], size)
        missing = [row for row, key in enumerate(keys) if key is None or key not in cached]
        fresh: dict[int, Array] = dict(zip(missing, encode(missing), strict=True)) if missing else {}
        if fresh and cached and len(fresh[missing[0]]) != len(next(iter(cached.values()))):
            return encode(list(range(len(keys))))  # what is in the cache is of another model
        if self._cache:
            self._cache.put({key: fresh[row] for row, key in enumerate(keys) if key and row in fresh})
            self._cache.save_uses()
        return np.stack([fresh[row] if row in fresh else cached[key or b""] for row, key in enumerate(keys)])

    def _cached(self, keys: list[bytes], size: int | None) -> dict[bytes, Array]:
        """Return the embeddings that the cache has, all of them of one size."""
        cached = self._cache.get(keys) if self._cache else {}
        if size is None and cached:
            size = Counter(map(len, cached.values())).most_common(1)[0][0]
        return {key: vector for key, vector in cached.items() if len(vector) == size}

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
