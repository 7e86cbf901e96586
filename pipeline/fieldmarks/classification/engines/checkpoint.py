"""A model's parts as transformers loads them, what its family does differently, device and precision.

A text has the form in which its family was trained, whatever the checkpoint's tokenizer would do by default.
SigLIP and SigLIP 2 read lower-case text without punctuation, closed by an end token even where it is cut, and
padded on the right to their full length; their text tower attends to the padding too, so it gets no mask.
Source: big_vision's `canonicalize` and its tokenizers with a sticky end token. TIPSv2 and ALIGN divide
cosines by a temperature where CLIP multiplies them by exp(logit_scale).

Device and precision are answered without loading torch wherever that is possible. "auto" is half precision
only where the hardware multiplies such numbers by itself: bfloat16 on a CPU with AVX-512 BF16 or AMX, float16
on NVIDIA GPUs with tensor cores, where it is as fast as bfloat16 and seven times closer to float32 (measured
on an H100), float32 anywhere else.
"""

import json
import os
import platform
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldmarks.choices import DEFAULT_CLIP, Device, DType
from fieldmarks.classification.engines.open_clip import OpenClip
from fieldmarks.classification.preprocess import MAX_SIDE, Recipe, longest_side, recipe_of
from fieldmarks.errors import ModelError
from fieldmarks.extras import install
from fieldmarks.hub import ModelSource, check_torchvision, loaded_once

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase


# Families whose texts are read at the first end token that the configuration names. Of CLIP's own, the number
# 2 is that of old configurations, which stands for the highest token there is.
READ_AT_THE_END: Final = frozenset(("clip", "clipseg", "groupvit"))
ANY_END: Final = 2
_VERSION: Final = 2  # of the forms: texts in the cache that were read in another one are a miss
_NO_PUNCTUATION: Final = str.maketrans("_", " ", string.punctuation.replace("_", ""))
_BFLOAT16_FLAGS: Final = {"avx512_bf16", "amx_bf16"}
_TENSOR_CORES: Final = (7, 0)  # the first GPUs that have them; older ones compute float16 slowly
_GPU_FILES: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, one under WSL, AMD


@dataclass(frozen=True, slots=True)
class TextForm:
    """How a family reads texts.

    `length` is the most tokens it was trained on, where its positions would allow more. A `fixed` form is
    always as long as there are positions, without a mask; `offset` positions are before the first token's.
    """

    length: int | None = None
    canonical: bool = False  # lower case, no punctuation
    fixed: bool = False
    offset: int = 0

    @property
    def name(self) -> str:
        """What tells this form from any other, for keys of a cache."""
        return f"form {_VERSION}, {self.length} tokens, canonical {self.canonical}, fixed {self.fixed}"

    def read(self, texts: Sequence[str]) -> list[str]:
        """Return texts as the tokenizer gets them."""
        return [canonical(text) for text in texts] if self.canonical else list(texts)

    def max_tokens(self, positions: int | None, tokenizer: int) -> int:
        """Return the most tokens of a text, of a model's positions and its tokenizer's own limit."""
        room = positions - self.offset if positions else None
        if self.fixed and room:
            return room
        return min(limit for limit in (self.length, room, tokenizer) if limit is not None)


_PADDED: Final = TextForm(canonical=True, fixed=True)
FORMS: Final[Mapping[str, TextForm]] = {
    "siglip": _PADDED,
    "siglip2": _PADDED,
    "chinese_clip": TextForm(length=52),
    "altclip": TextForm(length=77, offset=2),  # XLM-RoBERTa counts positions from its padding's number on
    "flava": TextForm(length=77),
    "align": TextForm(length=64),
    "tipsv2": TextForm(length=64),
}
_CLIP: Final = TextForm()


def form_of(model_type: str | None) -> TextForm:
    """Return the form in which a family reads texts: CLIP's own for one that is not known."""
    return FORMS.get(model_type or "", _CLIP)


def canonical(text: str) -> str:
    """Return a text in lower case, its punctuation out and "_" a blank, single blanks between words."""
    return " ".join(text.translate(_NO_PUNCTUATION).lower().split())


def fixed_rows(rows: Sequence[Sequence[int]], *, length: int, end: int | None, pad: int) -> NDArray[np.int64]:
    """Return token ids (M, length): each row cut to leave room for the end token, and padded on the right."""
    closing = [] if end is None else [end]
    filled = np.full((len(rows), length), pad, np.int64)
    for row, ids in zip(filled, rows, strict=True):
        closed = [*ids[: length - len(closing)], *closing]
        row[: len(closed)] = closed
    return filled


_VIDEOS: Final = "which reads videos, not single images"
_UNSUITABLE: Final[Mapping[str, str]] = {
    "xclip": f"an X-CLIP model, {_VIDEOS}",
    "videoprism": f"a VideoPrism model, {_VIDEOS}",
    "blip-2": "a BLIP-2 model, whose text features are a language model's and not comparable with images",
}


def unsuitable(model_type: str, model: object) -> str | None:
    """Return what a model of a type and class is that has not CLIP's two encoders; None for others."""
    kind = _UNSUITABLE.get(model_type)
    if kind is None and not all(hasattr(model, name) for name in ("get_text_features", "get_image_features")):
        kind = f"a {model_type} model, not one with CLIP's two encoders"
    return kind and f"{kind}: pass a CLIP-like model such as {DEFAULT_CLIP}"


def logit_scale(network: Any) -> float | None:
    """Return the factor of a network's cosines; None if it has neither logit_scale nor temperature."""
    if (scale := getattr(network, "logit_scale", None)) is not None:
        return float(scale.detach().float().exp())
    if (temperature := getattr(network, "temperature", None)) is not None:
        return float(1 / temperature.detach().float())
    return None


def features(output: Any) -> "Tensor":
    """Return the embeddings (N, D) in what a network's `get_text_features` or `get_image_features` returns.

    transformers 5 gives an object instead of a tensor, and for FLAVA every token's: the first is the text's.
    """
    tensor: Tensor = output.pooler_output if hasattr(output, "pooler_output") else output
    return tensor[:, 0] if tensor.ndim == 3 else tensor


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


def missing_to_decode(device: str) -> str | None:
    """Return what a device lacks to decode JPEGs, None for nothing; torch is not loaded to find out."""
    if not device.startswith("cuda"):
        return f"an NVIDIA GPU, and the model runs on {device} here: leave it out"
    return None if find_spec("torchvision") else f"torchvision: {install('gpu')}"


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
        check_torchvision()
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
        check_torchvision()
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
