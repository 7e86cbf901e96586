"""The encoder: any CLIP-like model that transformers loads, as two functions into one embedding space.

Embeddings are float32 on the CPU, after the model's projection, not scaled to unit length.

Embeddings of texts and pictures: encoded in batches while the next pictures are decoded in threads.

At most a window of pictures is in memory, so a stream of any length runs in constant memory.
"""

import hashlib
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np

from fieldmarks.classification.cache import EmbeddingCache, key_of
from fieldmarks.classification.engines.checkpoint import Checkpoint, Device, DType, device_of, dtype_of
from fieldmarks.classification.engines.engine import Engine, EngineChoice, EngineName
from fieldmarks.classification.engines.openvino.conversion import Conversion
from fieldmarks.classification.images import Url
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Picture, name_of, read_stamped
from fieldmarks.errors import ImageError, ModelError

if TYPE_CHECKING:
    from PIL import Image


DEFAULT_CLIP: Final = "openai/clip-vit-base-patch32"
_TOKENS: Final = {"cpu": 1536}  # of a pass over texts, padding included; measured on CPUs
_TOKENS_ELSEWHERE: Final = 32_768
_PICTURES: Final = {"cpu": 32}  # pictures of a pass, unless the user says otherwise
_PICTURES_ELSEWHERE: Final = 128


class Encoder:
    """A CLIP-like model by folder or Hugging Face id, and how it is computed; all of it loads when needed.

    Everything loads from safetensors and without remote code; a folder, or an environment with
    HF_HUB_OFFLINE, never asks the network. The engine "auto" is OpenVINO on a CPU where it is installed and
    gives what torch gives, else torch. `tell` hears of work that lets a person wait. Raises ModelError for a
    device by name that is not there.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_CLIP,
        *,
        device: Device = "auto",
        dtype: DType = "auto",
        engine: EngineChoice = "auto",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = str(model)
        if device in ("cuda", "mps"):
            device_of(device)
        self._asked: tuple[Device, DType, str] = (device, dtype, engine)
        self._tell = tell
        self._loading = RLock()  # pictures are prepared in several threads
        self._checkpoint = Checkpoint(self.name)
        self._file_hash = EmbeddingCache().file_hash  # which remembers those of unchanged files
        self._notices: list[str] = []

    @cached_property
    def device(self) -> str:
        """Where the model computes."""
        return device_of(self._asked[0])

    @cached_property
    def dtype(self) -> str:
        """The numbers in which the model computes."""
        return dtype_of(self._asked[1], self.device)

    @cached_property
    def engine_name(self) -> EngineName:
        """Which engine computes; the first time for a model on a machine it is converted to find out.

        Raises ModelError if the engine asked for by name cannot compute this model here.
        """
        asked = self._asked[2]
        with self._loading:
            obstacle = "not asked for" if asked == "torch" else self._conversion.obstacle(self.device)
            if asked != "openvino" and obstacle:
                return "torch"
            refusal = obstacle or self._refusal()
        if refusal and asked == "openvino":
            raise ModelError(
                f"{self.name} cannot be computed by openvino: {refusal}; --engine torch computes it"
            )
        if refusal:
            self._notices = [f"torch computes, as openvino cannot: {refusal}"]
        return "torch" if refusal else "openvino"

    @cached_property
    def engine(self) -> Engine:
        """The model, ready to compute. Raises ModelError as `engine_name`."""
        with self._loading:
            if self.engine_name == "openvino":
                return self._conversion.engine()
            from fieldmarks.classification.engines.torch import TorchEngine

            return TorchEngine(self._checkpoint, device=self.device, dtype=self.dtype)

    @cached_property
    def fingerprint(self) -> str | None:
        """What tells the embeddings made here from any other; None before a model's first download.

        Model, preprocessing, engine and numbers are in it.
        """
        computed = f"{self.dtype} {self.engine_name}"
        files = self._checkpoint.fingerprint(self._file_hash)
        return files and f"{files} {computed}"

    @property
    def identity(self) -> str:
        """The fingerprint; a model that was not downloaded yet is, to have one. Raises ModelError."""
        fingerprint = self.fingerprint
        if fingerprint is None:
            self.engine.logit_scale  # noqa: B018  which downloads and loads the model
            del self.fingerprint
            fingerprint = self.fingerprint
        return hashlib.sha256((fingerprint or self.name).encode()).hexdigest()

    @property
    def decoding(self) -> Literal["full", "reduced"]:
        """How JPEGs are decoded: at full size with float32, else at a size that serves the model."""
        return "full" if self.dtype == "float32" else "reduced"

    @property
    def about(self) -> dict[str, str]:
        """How embeddings are made here, as it is kept with them."""
        return {"model": self.name, "dtype": self.dtype, "engine": self.engine_name}

    @property
    def notices(self) -> list[str]:
        """What the user should be told of how the model is computed."""
        halved = self._asked[1] == "auto" and self.dtype != "float32"
        told = f"computed in {self.dtype}, native to this {self.device.upper()}; --dtype float32 is exact"
        return [*([told] if halved else []), *self._notices]

    @property
    def batch(self) -> int:
        """How many pictures a pass should have."""
        return _PICTURES.get(self.device, _PICTURES_ELSEWHERE)

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines, exp(logit_scale). Raises ModelError for none."""
        scale = self.engine.logit_scale
        if not math.isfinite(scale):
            raise ModelError(f"{self.name} has a logit scale that is no number: download it again")
        return scale

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have, the special ones included."""
        return self.engine.max_tokens

    @property
    def least(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded; None: as it is."""
        return None if self.decoding == "full" else self.engine.least

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, the special ones included, before any cutting."""
        return self.engine.token_counts(texts)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts; those over the model's length are cut."""
        most = self.max_tokens
        full = self.engine.pads_to_full_length
        lengths = [most if full else min(most, tokens) for tokens in self.token_counts(texts)]
        passes = list(by_length(lengths, _TOKENS.get(self.device, _TOKENS_ELSEWHERE)))
        parts = [self._finite(self.engine.texts([texts[row] for row in rows])) for rows in passes]
        embeddings = np.concatenate(parts)  # (M, D), sorted by length
        embeddings[np.concatenate(passes)] = embeddings.copy()
        return embeddings

    def prepare(self, image: "Image.Image") -> Any:
        """Return what `encode_images` reads of one RGB picture."""
        return self.engine.prepare(image)

    def encode_images(self, pictures: Sequence[Any]) -> Array:
        """Return the embeddings (N, D) of N prepared pictures, in one pass."""
        return self._finite(self.engine.images(pictures))

    @cached_property
    def _conversion(self) -> Conversion:
        return Conversion(self._checkpoint, self.dtype, self._file_hash, self._tell)

    def _refusal(self) -> str | None:
        """Return why the conversion is not used, None if it is good."""
        try:
            return self._conversion.refusal
        except ModelError:
            if self._asked[2] == "openvino":
                raise
            return "the model itself cannot be used"  # torch tells why

    def _finite(self, embeddings: Array) -> Array:
        if not np.isfinite(embeddings).all():
            remedy = "download it again" if self.dtype == "float32" else "try --dtype float32"
            raise ModelError(f"{self.name} gives embeddings that are no numbers: {remedy}")
        return embeddings


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

            def decoded(least: int | None) -> "Image.Image":
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
