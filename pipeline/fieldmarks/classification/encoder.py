"""The model: any CLIP-like model that transformers loads, as two functions into one embedding space.

Embeddings are float32 on the CPU, after the model's projection, not scaled to unit length.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError
from fieldmarks.pretrained import ModelSource, one_line

if TYPE_CHECKING:  # a run that finds all embeddings in the cache loads none of these
    import torch
    from PIL import Image
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase

DEFAULT_CLIP: Final = "openai/clip-vit-base-patch32"
Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

TEXT_BATCH: Final = 256  # texts per forward pass
_PADDED_TO_FULL_LENGTH: Final = {"siglip", "siglip2"}  # trained so; a shorter text would change the result


class ClipLike(Protocol):
    """What is used of a model."""

    dtype: "torch.dtype"
    logit_scale: "Tensor"

    def get_text_features(self, **inputs: "Tensor") -> Any:
        """Return a tensor (M, D), or an output object with it as pooler_output."""

    def get_image_features(self, **inputs: "Tensor") -> Any:
        """Return a tensor (N, D), or an output object with it as pooler_output."""


class Encoder:
    """A CLIP-like model by folder or Hugging Face id; tokenizer, preprocessing and weights load when needed.

    Everything loads from safetensors and without remote code; a folder, or an environment with
    HF_HUB_OFFLINE, never asks the network. Raises ModelError for a device by name that is not there.
    """

    def __init__(
        self, model: str | Path = DEFAULT_CLIP, *, device: Device = "auto", dtype: DType = "auto"
    ) -> None:
        self.name = str(model)
        if device in ("cuda", "mps"):
            _device(device)
        self._device: Device = device
        self._dtype: DType = dtype
        self._loading = Lock()
        self.source = ModelSource(self.name, "a CLIP-like model")

    @cached_property
    def device(self) -> str:
        """Where the model computes."""
        return _device(self._device)

    @property
    def dtype(self) -> str:
        """The weights' type in use; "auto" is float32 on a CPU and the checkpoint's own elsewhere."""
        return "float32" if self._dtype == "auto" and self.device == "cpu" else self._dtype

    def fingerprint(self, file_hash: Callable[[Path], str]) -> str | None:
        """Return what tells model, preprocessing and type of weights from any other; see ModelSource.

        The type "auto" is not looked into, as that would load torch: a machine answers it the same each time.
        """
        dtype = "float32" if self._device == "cpu" and self._dtype == "auto" else self._dtype
        files = self.source.fingerprint(file_hash)
        backend = "torchvision" if find_spec("torchvision") else "pil"  # they scale pictures differently
        return files and f"{files} {dtype} {backend}"

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines, exp(logit_scale)."""
        return float(self.model.logit_scale.detach().float().exp())

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts; those over the model's length are cut."""
        parts = [self._encode_texts(texts[at : at + TEXT_BATCH]) for at in range(0, len(texts), TEXT_BATCH)]
        return np.concatenate(parts)

    def prepare(self, image: "Image.Image") -> "dict[str, Tensor]":
        """Return the model's inputs of one RGB picture, each with a first dimension of 1."""
        with self._loading:  # pictures are prepared in several threads
            processor = self.image_processor
        try:
            return dict(processor(images=[image], return_tensors="pt"))
        except Exception as error:
            raise ModelError(f"{self.name} cannot prepare a picture: {one_line(error)}") from error

    def encode_images(self, pictures: "Sequence[Mapping[str, Tensor]]") -> Array:
        """Return the embeddings (N, D) of N prepared pictures, in one forward pass."""
        import torch

        model = self.model
        try:
            inputs = {key: torch.cat([one[key] for one in pictures]) for key in pictures[0]}
        except RuntimeError as error:
            raise ModelError(f"{self.name} does not scale pictures to one size: {one_line(error)}") from error
        floating = {key: value.to(model.dtype) for key, value in inputs.items() if value.is_floating_point()}
        return self._features(model.get_image_features, inputs | floating)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, the special ones included, before any cutting."""
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]

    @cached_property
    def max_tokens(self) -> int:
        """The most tokens a text may have, the special ones included."""
        positions = getattr(self.config.text_config, "max_position_embeddings", None)
        return min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length)

    @cached_property
    def config(self) -> Any:
        """The model's configuration. Raises ModelError if it is not that of a CLIP-like model."""
        from transformers import MODEL_MAPPING, AutoConfig

        config = self.source.load(AutoConfig)
        kind = MODEL_MAPPING.get(type(config), None)
        if not all(hasattr(kind, name) for name in ("get_text_features", "get_image_features")):
            raise ModelError(f"{self.name} is a {config.model_type} model, not one with CLIP's two encoders")
        return config

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The tokenizer. Raises ModelError."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = self.source.load(AutoTokenizer)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes up without its files
            raise ModelError(
                f"{self.name} has no tokenizer: its vocabulary is missing, download the model again"
            )
        return tokenizer

    @cached_property
    def image_processor(self) -> "BaseImageProcessor":
        """The preprocessing of pictures. Raises ModelError."""
        from transformers import AutoImageProcessor

        processor: BaseImageProcessor = self.source.load(AutoImageProcessor)
        return processor

    @cached_property
    def model(self) -> ClipLike:
        """The model with its weights, ready to compute. Raises ModelError."""
        import torch
        from transformers import AutoModel

        kind = "auto" if self.dtype == "auto" else getattr(torch, self.dtype)
        config = self.config
        model = self.source.load_network(AutoModel, config=config, dtype=kind)
        if not hasattr(model, "logit_scale"):
            raise ModelError(f"{self.name} is a {config.model_type} model without CLIP's logit_scale")
        try:
            ready: ClipLike = model.to(self.device)
            return ready
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"{self.name} cannot run on {self.device}: {one_line(error)}") from error

    def _encode_texts(self, texts: Sequence[str]) -> Array:
        full = self.config.model_type in _PADDED_TO_FULL_LENGTH
        inputs = self.tokenizer(
            list(texts),
            padding="max_length" if full else True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return self._features(self.model.get_text_features, inputs)

    def _features(self, forward: Callable[..., Any], inputs: "Mapping[str, Tensor]") -> Array:
        """Run one of the two encoders; transformers 5 gives an output object instead of a tensor."""
        import torch

        try:
            with torch.inference_mode():
                output = forward(**{key: value.to(self.device) for key, value in inputs.items()})
        except (RuntimeError, IndexError, ValueError) as error:  # memory, or parts that do not fit together
            raise ModelError(f"{self.name} cannot compute on {self.device}: {one_line(error)}") from error
        features: Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
        if not features.isfinite().all():
            raise ModelError(f"{self.name} gives embeddings that are no numbers: try --dtype float32")
        embeddings: Array = features.to("cpu", torch.float32).numpy()
        return embeddings


def _device(asked: Device) -> str:
    """Return the device to compute on. Raises ModelError if the one asked for is not there."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[asked]:
        raise ModelError(f"there is no {asked} device here: choose --device cpu or auto")
    return asked
