"""The encoder: any CLIP-like model that transformers loads, as two functions into one embedding space.

Embeddings are float32 on the CPU, after the model's projection, not scaled to unit length.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.engines.checkpoint import Checkpoint
from fieldmarks.classification.engines.conversion import Conversion
from fieldmarks.classification.engines.engine import Engine, EngineChoice, EngineName
from fieldmarks.classification.engines.precision import Device, DType, device_of, dtype_of
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError

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
            from fieldmarks.classification.engines.torch_engine import TorchEngine

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
