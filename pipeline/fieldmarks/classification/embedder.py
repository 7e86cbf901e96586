"""Embeddings of texts and images: an encoder, called in batches and threads, with the cache.

An `Encoder` is any CLIP-like model that transformers loads, as two functions into one embedding space;
embeddings are float32 on the CPU, after the model's projection, not scaled to unit length. An `Embedder`
encodes each text once and images in batches, while the next images are decoded in threads, and nothing again
that its cache holds. At most a window of images is in memory, so a stream of any length runs in constant
memory. Both may be used from several threads, and can be pickled: they load again where they are unpickled.

    embedder = open_embedder("creatures/models/clip", dtype="float32")
    texts = embedder.texts(["big eyes", "a long tail"])  # (2, D)
    for result in embedder.images(["a.png", "b.png"]):   # Embedded, or Failure
        print(result.image)
"""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from fieldmarks import choices
from fieldmarks.choices import DEFAULT_CLIP, Device, DType, check_choice, check_device
from fieldmarks.classification.cache import EmbeddingCache, key_of
from fieldmarks.classification.engines import Engine, defect_of, openvino
from fieldmarks.classification.engines.checkpoint import Checkpoint, device_of, dtype_of, missing_to_decode
from fieldmarks.classification.pipeline import PIXELS, Decoders, Preparation, Prepared, run
from fieldmarks.classification.preprocess import RecipePreprocessing
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import ImageInput, name_of
from fieldmarks.errors import ModelError, UsageError
from fieldmarks.hub import loaded_once, model_id

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

MAX_BATCH: Final = 4096
_IMAGES: Final = 32  # of a pass on a CPU, unless the user says otherwise
_IMAGES_ON_GPU: Final = 256


class Encoder:
    """A CLIP-like model by folder or Hugging Face id, with its engine, device and dtype; loaded on first use.

    Everything loads from safetensors and without remote code; a folder, or an environment with
    HF_HUB_OFFLINE, never asks the network. The engine "auto" is OpenVINO on a CPU where it is installed and
    gives what torch gives, else torch. With decode "gpu" an NVIDIA GPU also decodes JPEGs, approximately.
    Raises UsageError for an unknown option, ModelError for a device by name, or a GPU that is to decode, that
    is not there.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_CLIP,
        *,
        device: Device = "auto",
        dtype: DType = "auto",
        engine: choices.Engine = "auto",
        decode: choices.Decode = "auto",
    ) -> None:
        check_device(device)
        check_choice("dtype", dtype, DType)
        check_choice("engine", engine, choices.Engine)
        check_choice("decode", decode, choices.Decode)
        self.name = str(model)
        if device not in ("auto", "cpu"):
            device_of(device)
        self._requested: tuple[Device, DType, choices.Engine] = (device, dtype, engine)
        self._decode: choices.Decode = decode
        if decode == "gpu" and (missing := missing_to_decode(self.device)):
            raise ModelError(f"--decode gpu needs {missing}")
        self.checkpoint = Checkpoint(self.name)
        self._file_hash = EmbeddingCache().file_hash  # which remembers those of unchanged files
        self.refusal: str | None = None  # why OpenVINO does not compute where it was tried

    def __reduce__(self) -> tuple[Any, ...]:
        device, dtype, engine = self._requested
        made = partial(Encoder, device=device, dtype=dtype, engine=engine, decode=self._decode)
        return made, (self.name,)

    @property
    def requested(self) -> tuple[Device, DType, choices.Engine]:
        """The device, precision and engine as they were asked for, by which another process opens it."""
        return self._requested

    @property
    def model(self) -> str:
        """The model as it is recorded: an id of the hub, or the absolute path of a folder."""
        return model_id(self.name)

    @loaded_once
    def device(self) -> str:
        """The device that the model runs on."""
        return device_of(self._requested[0])

    @loaded_once
    def dtype(self) -> str:
        """The precision that the model runs in."""
        dtype = dtype_of(self._requested[1], self.device)
        if self._requested[1] == "auto" and dtype != "float32":
            where = f"{dtype} (native on this {self.device.partition(':')[0].upper()})"
            logger.debug("using %s; pass --dtype float32 for full precision", where)
        return dtype

    @loaded_once
    def engine_name(self) -> Literal["torch", "openvino"]:
        """The engine in use; on a machine's first use of a model, it is converted to find out.

        Raises ModelError if the engine asked for by name cannot compute this model here.
        """
        engine = self._requested[2]
        if engine == "torch":
            return "torch"
        obstacle = openvino.obstacle(self.checkpoint, self.dtype, self.device)
        if engine == "auto" and obstacle:
            return "torch"
        refusal = obstacle or self._refusal()
        if refusal and engine == "openvino":
            raise ModelError(f"{self.name} cannot run on OpenVINO: {refusal}; use --engine torch")
        if refusal:
            self.refusal = f"{self.name}: using torch, because OpenVINO cannot run it: {refusal}"
            logger.warning("%s", self.refusal)
        return "torch" if refusal else "openvino"

    @loaded_once
    def engine(self) -> Engine:
        """The model, ready to compute. Raises ModelError as `engine_name`."""
        if self.engine_name == "openvino":
            assert not isinstance(self._converted, str)
            return self._converted
        from fieldmarks.classification.engines.torch import TorchEngine

        return TorchEngine(self.checkpoint, device=self.device, dtype=self.dtype)

    @loaded_once
    def fingerprint(self) -> str | None:
        """Everything that these embeddings depend on; None before a model's first download.

        Model, preprocessing, engine and precision are in it.
        """
        files = self.checkpoint.fingerprint(self._file_hash)
        return files and f"{files} {self.dtype} {self.engine_name}"

    @property
    def identity(self) -> str:
        """The hash of the fingerprint; a model that was not downloaded yet is. Raises ModelError."""
        if self.fingerprint is None:
            self.engine.logit_scale  # noqa: B018  which downloads and loads the model
            del self.fingerprint
        return hashlib.sha256((self.fingerprint or self.name).encode()).hexdigest()

    @property
    def model_identity(self) -> str:
        """The hash of the model and its preprocessing alone, whatever the engine and the precision."""
        if self.fingerprint is None:
            _ = self.identity  # which downloads the model
        files = self.checkpoint.fingerprint(self._file_hash)
        return hashlib.sha256((files or self.name).encode()).hexdigest()

    @property
    def decoding(self) -> Literal["full", "reduced", "gpu"]:
        """How JPEGs are decoded: at full size with float32 or by a GPU, else at one that serves the model."""
        if self._decode == "gpu":
            return "gpu"
        return "full" if self.dtype == "float32" else "reduced"

    @property
    def metadata(self) -> dict[str, str]:
        """How embeddings are made here, as it is kept with them."""
        return {
            "model": self.model,
            "dtype": self.dtype,
            "engine": self.engine_name,
            "decode": self.decoding,
        }

    @property
    def provenance(self) -> dict[str, str]:
        """What `metadata` says, and the digest of model and preprocessing, as an embedding set has it.

        A model that was not downloaded yet is. Raises ModelError.
        """
        if self.fingerprint is None:
            self.engine.logit_scale  # noqa: B018  which downloads and loads the model
            del self.fingerprint
        files = f"{self.checkpoint.fingerprint(self._file_hash) or self.name} {PIXELS}"
        return self.metadata | {"fingerprint": hashlib.sha256(files.encode()).hexdigest()}

    @property
    def batch(self) -> int:
        """How many images to embed per pass: on a GPU fewer where its free memory holds no more."""
        if self.device == "cpu":
            return _IMAGES
        return self.engine.largest_batch(_IMAGES_ON_GPU) if "engine" in vars(self) else _IMAGES_ON_GPU

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines, exp(logit_scale). Raises ModelError for none."""
        scale = self.engine.logit_scale
        if not math.isfinite(scale):
            raise ModelError(f"{self.name} has a logit scale that is NaN or infinite: download it again")
        return scale

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have, the special ones included."""
        return self.engine.max_tokens

    @property
    def text_form(self) -> str:
        """What tells the form in which texts are read from any other; it is part of the cache's keys."""
        return self.checkpoint.text_form.name

    @property
    def min_side(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded; None: as it is."""
        return self.engine.min_side if self.decoding == "reduced" else None

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, the special ones included, before any cutting."""
        return self.engine.token_counts(texts)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts; those over the model's length are cut."""
        return self._checked(self.engine.texts(texts))

    def prepare(self, image: "Image.Image") -> Any:
        """Return what `encode_images` reads of one RGB image."""
        return self.engine.prepare(image)

    @property
    def portable(self) -> RecipePreprocessing | None:
        """What `prepare` and `min_side` are in another process; None if that cannot be had.

        Nor is there one before this encoder was used: nothing loads a model to find out. Where a GPU decodes
        there is too little to do for a process.
        """
        is_worth_it = "engine" in vars(self) and self.decoding != "gpu"
        recipe = self.engine.recipe if is_worth_it else None
        return RecipePreprocessing(recipe, self.min_side) if recipe else None

    @property
    def under_way(self) -> int:
        """How many passes to start before the first is waited for: a CPU ends each before it returns."""
        return 0 if self.device == "cpu" else 1

    def start_images(self, prepared: Sequence[Any]) -> Callable[[], Array]:
        """Start a pass over N prepared images; return what waits for their embeddings (N, D)."""
        finish = self.engine.start_images(prepared)
        return lambda: self._checked(finish())

    def encode_images(self, prepared: Sequence[Any]) -> Array:
        """Return the embeddings (N, D) of N prepared images, in one pass."""
        return self.start_images(prepared)()

    @loaded_once
    def _converted(self) -> openvino.OpenVinoEngine | str:
        return openvino.converted(self.checkpoint, self.dtype, self._file_hash)

    def _refusal(self) -> str | None:
        """Return why the conversion is not used, None if it is good."""
        try:
            return self._converted if isinstance(self._converted, str) else None
        except ModelError:
            if self._requested[2] == "openvino":
                raise
            return "the model itself cannot be used"  # torch says why

    def _checked(self, embeddings: Array) -> Array:
        if (defect := defect_of(embeddings, self.dtype)) is not None:
            raise ModelError(f"{self.name} gives embeddings {defect}")
        return embeddings


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image's name, its embedding (D,), a small JPEG where one was asked for, its file's version."""

    image: str
    vector: Array
    thumbnail: bytes | None = None
    version: FileVersion | None = None


class Embedder:
    """Embeds with one encoder: each text once, images in batches, and nothing that `cache` already holds."""

    def __init__(
        self, encoder: Encoder, *, cache: EmbeddingCache | None = None, batch: int | None = None
    ) -> None:
        if batch is not None and not 1 <= batch <= MAX_BATCH:
            raise UsageError(f"batch: expected 1 to {MAX_BATCH}, found {batch}")
        self.encoder = encoder
        self._batch = batch
        self._cache = cache
        self._cut: str | None = None
        self._depth: str | None = None
        self._dim: int | None = None  # D, once an embedding is known

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Embedder, cache=self._cache, batch=self._batch), (self.encoder,)

    @property
    def batch(self) -> int:
        """How many images a pass embeds."""
        return self._batch or self.encoder.batch

    @property
    def notices(self) -> list[str]:
        """Messages logged about the engine, texts, images and the cache, for a record of the run."""
        cache = self._cache.problem if self._cache else None
        return [notice for notice in (self.encoder.refusal, self._cut, self._depth, cache) if notice]

    @loaded_once
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines."""
        keys = [self._key("logit_scale", "")]
        rows = self._rows(keys, lambda _: np.array([[self.encoder.logit_scale]], np.float32), 1)  # (1, 1)
        return float(rows[0, 0])

    def texts(self, texts: Iterable[str]) -> Array:
        """Return the embeddings (M, D) of M texts; equal texts are encoded once, long ones are reported."""
        texts = list(texts)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        listed = list(distinct)
        kind = f"text and cut, {self.encoder.text_form}"
        keys = [self._key(kind, text) for text in listed]
        size = None if self._dim is None else self._dim + 1
        rows = self._rows(keys, lambda missing: self._encode_texts([listed[row] for row in missing]), size)
        self._dim = rows.shape[1] - 1
        self._report_cut(listed, rows[:, -1])
        return rows[[distinct[text] for text in texts], :-1]

    def _encode_texts(self, texts: list[str]) -> Array:
        """Return embeddings (M, D + 1), the last number of each where the model cuts the text, or 0.

        It is kept with the embedding so that every run can report cut texts without the tokenizer.
        """
        most = self.encoder.max_tokens
        cut = [most if tokens > most else 0 for tokens in self.encoder.token_counts(texts)]
        return np.column_stack([self.encoder.encode_texts(texts), np.array(cut, np.float32)])

    def _report_cut(self, texts: list[str], cut: Array) -> None:
        long = [text for text, at in zip(texts, cut, strict=True) if at]
        if long:
            texts_are = "1 text is" if len(long) == 1 else f"{len(long)} texts are"
            self._cut = (
                f"{texts_are} longer than {cut.max():.0f} tokens, the limit of {self.encoder.name},"
                f" and truncated: {long[0]!r:.60}"
            )
            logger.warning("%s", self._cut)

    def images(
        self, images: Iterable[ImageInput | Failure], *, thumbnails: int = 0
    ) -> Iterator[Embedded | Failure]:
        """Yield an embedding for each image in their order, or a Failure for one that cannot be read.

        A Failure among the images passes through. The first `thumbnails` images come with a small copy.
        """
        named = ((number, name_of(image, number), image) for number, image in enumerate(images, 1))
        decoders = Decoders(self._preparation, self._portable)
        batches = run(
            named,
            lambda item: decoders(*item[1:], small=item[0] <= thumbnails, dim=self._dim),
            self.encoder.start_images,
            batch=self.batch,
            under_way=self.encoder.under_way,
            complete=self._complete if self.encoder.decoding == "gpu" else lambda _: None,
            stop=decoders.close,
        )
        try:
            for items, fresh in batches:
                yield from self._embedded(items, fresh)
        finally:
            batches.close()
            if self._cache:
                self._cache.save_uses()

    def _preparation(self) -> Preparation:
        kind = f"{PIXELS}, decoded {self.encoder.decoding}"
        key = (self.fingerprint, kind) if self.fingerprint else None
        return Preparation(self.encoder, self._cache, key, self.encoder.decoding == "gpu")

    def _complete(self, batch: list[Prepared | Failure]) -> None:
        self._preparation().complete(batch, self.encoder.engine.decode)

    def _portable(self) -> Preparation | None:
        """Return the preparation for a process; None before an image was decoded here, or if it cannot be."""
        preprocessing = self.encoder.portable
        return None if preprocessing is None else replace(self._preparation(), preprocessing=preprocessing)

    def _embedded(self, batch: list[Prepared | Failure], fresh: Array | None) -> Iterator[Embedded | Failure]:
        """Yield the images of a batch; `fresh` are the embeddings of those that had none yet."""
        rows = iter(() if fresh is None else fresh)
        pairs = [
            (item, next(rows) if isinstance(item, Prepared) and item.vector is None else None)
            for item in batch
        ]
        if self._cache:
            computed = ((item, row) for item, row in pairs if isinstance(item, Prepared) and row is not None)
            self._cache.put({item.key: row for item, row in computed if item.key})
        if fresh is not None:
            self._dim = fresh.shape[1]
        for item, row in pairs:
            if isinstance(item, Failure):
                yield item
                continue
            self._report_depth(item)
            vector = row if item.vector is None else item.vector
            assert vector is not None
            yield Embedded(item.image, vector, item.thumbnail, item.version)

    def _report_depth(self, item: Prepared) -> None:
        """Say once that an image's depth was taken from its values, as its file does not tell it."""
        if item.depth and self._depth is None:
            self._depth = (
                f"{item.image}: its largest value is {item.depth.high:,.0f}, so it is read as"
                f" {item.depth.bits} bits; other images that do not name their bits are read the same way"
            )
            logger.warning("%s", self._depth)

    def _rows(
        self, keys: list[bytes | None], encode: Callable[[list[int]], Array], size: int | None
    ) -> Array:
        """Return a row for each key: from the cache, or from `encode`, given the missing rows' numbers.

        A row has `size` numbers; where that is not known yet, as many as most of those in the cache.
        """
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

    @loaded_once
    def fingerprint(self) -> str | None:
        """What tells this model from others; None without a cache, or before the model's first download."""
        return self.encoder.fingerprint if self._cache else None


Clip = str | Path | Encoder | Embedder


def open_embedder(
    clip: Clip | None = None,
    *,
    default: str = DEFAULT_CLIP,
    device: Device = "auto",
    dtype: DType = "auto",
    engine: choices.Engine = "auto",
    decode: choices.Decode = "auto",
    batch: int | None = None,
    cache: bool = True,
) -> Embedder:
    """Return the embedder of a model, of the model `default` if none is named.

    `cache` keeps embeddings for later runs in the user's cache folder. Raises ModelError, and UsageError for
    an option that has no effect on an encoder made before.
    """
    if isinstance(clip, Encoder | Embedder):
        options: dict[str, Any] = {"device": device, "dtype": dtype, "engine": engine, "decode": decode}
        options |= {"batch": batch} if isinstance(clip, Embedder) else {}
        for name, value in options.items():
            if value not in ("auto", None):
                kind = type(clip).__name__
                raise UsageError(f"{name} has no effect: clip is an {kind} that has its own")
    if isinstance(clip, Embedder):
        return clip
    if not isinstance(clip, Encoder):
        clip = Encoder(clip or default, device=device, dtype=dtype, engine=engine, decode=decode)
    return Embedder(clip, cache=EmbeddingCache() if cache else None, batch=batch)
