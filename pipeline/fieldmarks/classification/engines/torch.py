"""The torch engine: any model that transformers loads, on a CPU or a GPU.

Its two towers are torch modules, which other engines convert. In a process of our own, as the command line's,
two things make a CPU faster. Memory stays with the process: a layer's numbers take megabytes, glibc gives
blocks of that size back to the system at once, and the system fills each new one with zeros, which takes up
to a fifth of the time in float32. And on AMD processors float32 products are convolutions: torch multiplies
matrices by Intel's MKL, which reaches less than half of what these cores can do, but computes convolutions by
oneDNN, which reaches nearly all; a linear layer over sequences is a convolution of one pixel over an image
whose rows they are.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.overrides import TorchFunctionMode

from fieldmarks.classification.engines.checkpoint import Checkpoint, ClipLike, is_amd, processor
from fieldmarks.classification.engines.families import features, logit_scale
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError
from fieldmarks.hub import is_own_process, loaded_once, one_line

if TYPE_CHECKING:
    from PIL import Image


KEPT: Final = 512 * 2**20  # bytes that may stay with the process once they are free
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to KEPT bytes of freed memory for its next use, where its C library can.

    Source: mallopt(3).
    """
    if sys.platform != "linux" or not is_own_process():
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return
    mallopt(_TRIM_THRESHOLD, KEPT)
    mallopt(_MMAP_THRESHOLD, KEPT)


def fast_products(device: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return a context in which linear layers run as fast as possible on this device and in this dtype."""
    slow = device == "cpu" and dtype == torch.float32 and is_amd(processor())
    if not slow or not is_own_process():
        return nullcontext()
    return ByConvolution() if torch.backends.mkldnn.is_available() else nullcontext()  # type: ignore[no-untyped-call]


class ByConvolution(TorchFunctionMode):
    """While it is entered, linear layers over sequences (N, T, D) are computed as convolutions."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what stands for it."""
        called = _linear if func is linear else func
        return called(*args, **(kwargs or {}))


# The arguments have the names that torch gives them, as some callers use these.
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if input.dim() != 3:
        return linear(input, weight, bias)
    pixels = input[None].permute(0, 3, 1, 2)  # (1, D, N, T), and in memory still (N, T, D)
    return conv2d(pixels, weight[:, :, None, None], bias).permute(0, 2, 3, 1)[0]


class TextTower(nn.Module):
    """Token ids (M, T), and whatever else the tokenizer gives, to embeddings (M, D)."""

    def __init__(self, network: ClipLike) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Return the embeddings (M, D)."""
        more = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        present = {name: tensor for name, tensor in more.items() if tensor is not None}
        return features(self.network.get_text_features(input_ids=input_ids, **present))


class ImageTower(nn.Module):
    """Pixels of 8 bits (N, H, W, 3) to embeddings (N, D), with rescaling and normalisation as first step."""

    scale: Tensor  # (3,)
    shift: Tensor  # (3,)

    def __init__(self, network: ClipLike, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("scale", "shift"), recipe.scale_and_shift, strict=True):
            self.register_buffer(name, torch.from_numpy(values))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embeddings (N, D)."""
        normal = pixels.to(torch.float32) * self.scale + self.shift
        normal = normal.permute(0, 3, 1, 2).to(self.network.dtype)  # (N, 3, H, W)
        return features(self.network.get_image_features(pixel_values=normal))


class TorchEngine:
    """A checkpoint run by torch on one device, in one dtype.

    On a CPU the weights stay float32 and half precision is torch's autocast, which multiplies in it and adds
    up and normalises in float32: as fast as half weights, and several times closer to float32.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._tokenizing = Lock()  # each call sets the tokenizer's truncation and padding

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines."""
        return logit_scale(self.network) or 0.0  # a checkpoint's network has one

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have."""
        return self._checkpoint.max_tokens

    @property
    def pads_to_full_length(self) -> bool:
        """Whether texts are padded to `max_tokens`."""
        return self._checkpoint.text_form.fixed

    @property
    def min_side(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded."""
        recipe = self._checkpoint.recipe
        return recipe.min_side if recipe else None

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, before any cutting."""
        with self._tokenizing:
            return self._checkpoint.token_counts(texts)

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts."""
        with self._tokenizing:
            inputs = self._checkpoint.tokenize(texts)
        tower = TextTower(self.network)
        with self._computing():
            return _array(tower(**self._moved(inputs)))

    def prepare(self, image: "Image.Image") -> Any:
        """Return an image's pixels (H, W, 3) of 8 bits, or what the image processor makes of it."""
        if recipe := self._checkpoint.recipe:
            return recipe.pixels(image)
        processor = self._checkpoint.image_processor
        try:
            return dict(processor(images=[image], return_tensors="pt"))
        except Exception as error:
            raise ModelError(
                f"{self._checkpoint.name} cannot preprocess an image: {one_line(error)}"
            ) from error

    def images(self, prepared: Sequence[Any]) -> Array:
        """Return the embeddings (N, D) of N images."""
        network, recipe = self.network, self._checkpoint.recipe
        if recipe:
            pixels = torch.from_numpy(np.stack(prepared))  # (N, H, W, 3)
            tower = ImageTower(network, recipe).to(self._device)
            with self._computing():
                return _array(tower(**self._moved({"pixels": pixels})))
        inputs = self._joined(prepared)
        floating = {
            key: tensor.to(network.dtype) for key, tensor in inputs.items() if tensor.is_floating_point()
        }
        with self._computing():
            return _array(features(network.get_image_features(**self._moved(inputs | floating))))

    @loaded_once
    def network(self) -> ClipLike:
        """The model with its weights, ready to compute."""
        on_cpu = self._device == "cpu"
        if on_cpu:
            keep_freed_memory()
        network: Any = self._checkpoint.network(torch.float32 if on_cpu else self._dtype)
        try:
            ready: ClipLike = network.to(self._device)
            return ready
        except (RuntimeError, AssertionError) as error:
            name = self._checkpoint.name
            raise ModelError(f"{name} cannot run on {self._device}: {one_line(error)}") from error

    def _joined(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        try:
            return {key: torch.cat([image[key] for image in images]) for key in images[0]}
        except RuntimeError as error:
            raise ModelError(
                f"{self._checkpoint.name} does not scale images to one size: {one_line(error)}"
            ) from error

    def _moved(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs on the device; to a GPU they are copied while the CPU goes on."""
        if self._device != "cuda":
            return {key: tensor.to(self._device) for key, tensor in inputs.items()}
        return {key: tensor.pin_memory().to("cuda", non_blocking=True) for key, tensor in inputs.items()}

    @contextmanager
    def _computing(self) -> Iterator[None]:
        halved = self._device == "cpu" and self._dtype != torch.float32
        try:
            with (
                torch.inference_mode(),
                torch.autocast("cpu", self._dtype if halved else None, enabled=halved),
                fast_products(self._device, self._dtype),
            ):
                yield
        except (RuntimeError, IndexError, ValueError) as error:  # memory, or parts that do not fit together
            raise ModelError(
                f"{self._checkpoint.name} failed on {self._device}: {one_line(error)}"
            ) from error


def _array(embeddings: Tensor) -> Array:
    array: Array = embeddings.to("cpu", torch.float32).numpy()
    return array
