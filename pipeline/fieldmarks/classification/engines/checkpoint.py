"""A model's parts as transformers loads them, and the device and precision it runs in.

Device and precision are answered without loading torch wherever that is possible. "auto" is half precision
only where the hardware multiplies such numbers by itself: bfloat16 on a CPU with AVX-512 BF16 or AMX, float16
on NVIDIA GPUs with tensor cores, where it is as fast as bfloat16 and seven times closer to float32 (measured
on an H100), float32 anywhere else.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from fieldmarks.choices import Device, DType
from fieldmarks.classification.engines.families import (
    ANY_END,
    DEFAULT_CLIP,
    READ_AT_THE_END,
    TextForm,
    fixed_rows,
    form_of,
    logit_scale,
    unsuitable,
)
from fieldmarks.classification.engines.open_clip import OpenClip
from fieldmarks.classification.preprocess import MAX_SIDE, Recipe, longest_side, recipe_of
from fieldmarks.errors import ModelError
from fieldmarks.hub import ModelSource, loaded_once

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase


_BFLOAT16_FLAGS: Final = {"avx512_bf16", "amx_bf16"}
_TENSOR_CORES: Final = (7, 0)  # the first GPUs that have them; older ones compute float16 slowly
_GPU_FILES: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, one under WSL, AMD


def device_of(asked: Device) -> str:
    """Return the device to use for the one requested. Raises ModelError if it is not available."""
    if asked == "cpu" or (asked == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    kind, _, number = asked.partition(":")
    if not there[kind]:
        raise ModelError(f"no {kind} device is available: choose --device cpu or auto")
    if number and int(number) >= (count := torch.cuda.device_count()):
        raise ModelError(f"there is no {asked}: this machine's GPUs are cuda:0 to cuda:{count - 1}")
    return asked


def dtype_of(asked: DType, device: str) -> Literal["float32", "bfloat16", "float16"]:
    """Return the dtype to use on a device for the one requested."""
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        import torch

        return "float16" if torch.cuda.get_device_capability(device) >= _TENSOR_CORES else "float32"
    return "bfloat16" if device == "cpu" and has_bfloat16(processor()) else "float32"


def has_bfloat16(cpu: str) -> bool:
    """Whether a processor, as `processor` describes it, multiplies bfloat16 by itself."""
    return not _BFLOAT16_FLAGS.isdisjoint(cpu.split())


@cache
def processor() -> str:
    """Return this machine's processor by name, and by its abilities where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(
        line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))
    )


def _may_have_gpu() -> bool:
    """Whether torch has to be asked for a GPU: no, where its build knows none or the system has none."""
    if sys.platform != "linux":
        return True
    try:
        known = not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        known = True
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return known and not hidden and any(Path(name).exists() for name in _GPU_FILES)


class ClipLike(Protocol):
    """The part of a network's interface that is used, beside the factor of its cosines."""

    dtype: "torch.dtype"

    def get_text_features(self, **inputs: "Tensor") -> Any:
        """Return a tensor (M, D), or an output object with it as pooler_output."""

    def get_image_features(self, **inputs: "Tensor") -> Any:
        """Return a tensor (N, D), or an output object with it as pooler_output."""


class Checkpoint:
    """A CLIP-like model by folder or Hugging Face id; each part is loaded when it is asked for.

    Everything loads from safetensors and without remote code. Every part raises ModelError.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = ModelSource(name, "a CLIP-like model", reads_open_clip=True)

    def fingerprint(self, file_hash: Callable[[Path], str]) -> str | None:
        """Return what tells model and preprocessing from any other; see ModelSource."""
        files = self.source.fingerprint(file_hash)
        backend = "torchvision" if find_spec("torchvision") else "pil"  # they scale images differently
        return files and f"{files} {backend}"

    @property
    def model_type(self) -> str | None:
        """The architecture that the configuration names, read without transformers; None if it tells none."""
        folder = self.source.folder
        if folder and self.source.is_open_clip:
            return "clip"
        try:
            config = json.loads((folder / "config.json").read_text("utf-8")) if folder else {}
            return str(config["model_type"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    @loaded_once
    def open_clip(self) -> OpenClip | None:
        """The checkpoint in open_clip's layout; None for one in transformers'."""
        return OpenClip(self.source) if self.source.is_open_clip else None

    @loaded_once
    def config(self) -> Any:
        """The model's configuration. Raises ModelError if it is not that of a CLIP-like model."""
        from transformers import MODEL_MAPPING, AutoConfig

        if self.open_clip:
            return self.open_clip.config()
        config = self.source.load(AutoConfig)
        kind = MODEL_MAPPING.get(type(config), None)
        if (what := unsuitable(config.model_type, kind)) is not None:
            raise ModelError(f"{self.name} is {what}")
        return config

    @property
    def text_form(self) -> TextForm:
        """How the model's family reads texts; told without transformers."""
        return form_of(self.model_type)

    @loaded_once
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The tokenizer."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase
        tokenizer = self.open_clip.tokenizer() if self.open_clip else self.source.load(AutoTokenizer)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes up without its files
            raise ModelError(
                f"{self.name} has no tokenizer: its vocabulary is missing: download the model again"
            )
        return tokenizer

    @loaded_once
    def max_tokens(self) -> int:
        """The most tokens a text may have, the special ones included."""
        positions = getattr(self.config.text_config, "max_position_embeddings", None)
        most = self.text_form.max_tokens(positions, self.tokenizer.model_max_length)
        if most <= self.tokenizer.num_special_tokens_to_add():
            raise ModelError(f"{self.name} reads no text: its configuration allows {most} tokens")
        return int(most)

    @property
    def image_size(self) -> tuple[int, int]:
        """How many tokens an image is to the model, and how wide their states are; of a ViT."""
        vision = getattr(self.config, "vision_config", self.config)
        side, patch = (getattr(vision, name, None) for name in ("image_size", "patch_size"))
        width = getattr(vision, "hidden_size", None)
        is_vit = isinstance(side, int) and isinstance(patch, int) and isinstance(width, int) and patch
        return ((side // patch) ** 2 + 1, width) if is_vit else (1024, 1024)  # type: ignore[operator,return-value]

    @loaded_once
    def image_processor(self) -> "BaseImageProcessor":
        """The preprocessing of images. Raises ModelError if it makes them larger than any model reads."""
        from transformers import AutoImageProcessor

        processor: BaseImageProcessor = self.source.load(AutoImageProcessor)
        if longest_side(processor) > MAX_SIDE:
            raise ModelError(f"{self.name} scales images to more than {MAX_SIDE} pixels a side")
        return processor

    @loaded_once
    def recipe(self) -> Recipe | None:
        """The preprocessing as a recipe; None where only the processor itself can do it."""
        return self.open_clip.recipe() if self.open_clip else recipe_of(self.image_processor)

    def network(self, dtype: "torch.dtype") -> ClipLike:
        """Load the model with its weights in one dtype, in evaluation mode."""
        from transformers import AutoModel

        network: ClipLike
        if self.open_clip:
            network = self.open_clip.network(dtype)
        else:
            network = self.source.load_network(AutoModel, config=self.config, dtype=dtype)
        if logit_scale(network) is None:
            raise ModelError(
                f"{self.name} is a {self.config.model_type} model without CLIP's logit_scale or"
                f" a temperature: pass a CLIP-like model such as {DEFAULT_CLIP}"
            )
        return network

    @loaded_once
    def end_and_pad(self) -> tuple[int | None, int]:
        """The tokens that close a text of a fixed form and fill the rest."""
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        return end, next((token for token in (pad, end) if token is not None), 0)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, before any cutting."""
        return [len(ids) for ids in self._token_ids(texts, closed=True)]

    def tokenize(self, texts: Sequence[str]) -> "Mapping[str, Tensor]":
        """Return the inputs of texts, cut and padded on the right as the model's family reads them."""
        import torch

        if self.text_form.fixed:
            end, pad = self.end_and_pad
            ids = fixed_rows(self._token_ids(texts), length=self.max_tokens, end=end, pad=pad)
            self._check_fit(ids)
            return {"input_ids": torch.from_numpy(ids)}
        self.tokenizer.padding_side = self.tokenizer.truncation_side = "right"
        inputs: Mapping[str, Tensor] = self.tokenizer(
            self.text_form.read(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        self._check_fit(inputs["input_ids"].numpy())
        return inputs

    def _check_fit(self, ids: "NDArray[np.int64]") -> None:
        """Raise ModelError for tokens (M, T) that the text encoder does not know, or reads at none of."""
        config = self.config.text_config
        known, end = (getattr(config, name, None) for name in ("vocab_size", "eos_token_id"))
        if isinstance(known, int) and ids.size and ids.max() >= known:
            raise self._unfit(f"the tokenizer gives the token {ids.max()}, and the model has {known:,}")
        pooled = self.model_type in READ_AT_THE_END and isinstance(end, int) and end != ANY_END
        if pooled and not (ids == end).any(axis=-1).all():
            raise self._unfit(
                f"the model reads a text at the token {end}, which the tokenizer does not write"
            )

    def _unfit(self, what: str) -> ModelError:
        return ModelError(f"{self.name} has the tokenizer of another model ({what}): download it again")

    def _token_ids(self, texts: Sequence[str], *, closed: bool = False) -> list[list[int]]:
        """Return the tokens of each whole text: in a fixed form without special ones, unless `closed`."""
        fixed = self.text_form.fixed
        rows: list[list[int]] = self.tokenizer(
            self.text_form.read(texts), add_special_tokens=not fixed, verbose=False
        )["input_ids"]
        end, _ = self.end_and_pad
        return [[*row, end] for row in rows] if fixed and closed and end is not None else rows
