"""The torch engine: any model that transformers loads, on a CPU or a GPU.

Its two towers are torch modules; see towers.py. In a process of our own, as the command line's, two things
make a CPU faster. Memory stays with the process: a layer's numbers take megabytes, glibc gives blocks of
that size back to the system at once, and the system fills each new one with zeros, which takes up to a fifth
of the time in float32. And where a short trial says so, float32 products are convolutions: torch multiplies
matrices by Intel's MKL, which on some AMD processors reaches less than half of what their cores can do, but
computes convolutions by oneDNN, which reaches nearly all; a linear layer over sequences is a convolution of
one pixel over an image whose rows they are.
"""

import ctypes
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.overrides import TorchFunctionMode

from fieldmarks.classification.engines import TOKENIZED, batched, encoded_by_length
from fieldmarks.classification.engines.checkpoint import Checkpoint
from fieldmarks.classification.engines.device_decoding import Decode, DeviceDecoder, nvjpeg
from fieldmarks.classification.engines.towers import (
    CLIP_TOWERS,
    ClipTextTower,
    Towers,
    WholeNetwork,
)
from fieldmarks.classification.engines.trees import encoded_as_trees, read_tokens
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.threads import cores, has_share
from fieldmarks.errors import ModelError
from fieldmarks.hub import is_own_process, loaded_once, one_line

if TYPE_CHECKING:
    from PIL import Image

    from fieldmarks.classification.jpeg import Jpeg

logger = logging.getLogger(__name__)

KEPT: Final = 512 * 2**20  # bytes that may stay with the process once they are free
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3
_BYTES_A_NUMBER: Final = 64  # at the peak, for each number of an image's states: those of the MLP are 4 times
_TRIALS: Final = 6  # of each kind of product; the fastest counts, as other programs disturb the others
_CLEARLY: Final = 1.2  # times faster: on most processors both are the same within a few per cent
_TOKENS: Final = {"cpu": 1536}  # of a pass over texts, padding included; measured on CPUs
_TOKENS_ELSEWHERE: Final = 32_768
# Compilation takes about half a minute and saves about a fifth: it is repaid after as many seconds again.
COMPILE_AFTER: Final = 120.0  # seconds that a GPU has computed


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
    if device != "cpu" or dtype != torch.float32 or not is_own_process():
        return nullcontext()
    return ByConvolution() if convolutions_are_faster() else nullcontext()


@cache
def convolutions_are_faster() -> bool:
    """Whether this machine computes float32 products clearly faster as convolutions, by a short trial."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    inputs, weight = torch.randn(8, 64, 768), torch.randn(768, 768)
    times: dict[Callable[..., Tensor], list[float]] = {linear: [], _linear: []}
    with torch.inference_mode():
        for _ in range(_TRIALS):
            for product, taken in times.items():
                began = time.perf_counter()
                product(inputs, weight)
                taken.append(time.perf_counter() - began)
    return min(times[linear]) > _CLEARLY * min(times[_linear])


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


class TorchEngine:
    """A checkpoint run by torch on one device, in one dtype.

    On a CPU half precision is that of the products alone, while sums and norms stay in float32: as fast as
    half precision throughout, and several times closer to float32. Once a GPU has computed for
    `compile_after` seconds, its image tower is compiled, where that works.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str,
        dtype: str,
        compile_after: float = COMPILE_AFTER,
        decode: Decode = nvjpeg,
    ) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._kind = device.partition(":")[0]
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._tokenizing = Lock()  # each call sets the tokenizer's truncation and padding
        self._threads = torch.get_num_threads()
        self._long_run = LongRun(compile_after) if self._kind == "cuda" else None
        self._decode = decode

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines."""
        return self._towers.logit_scale

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have."""
        return self._checkpoint.max_tokens

    @property
    def recipe(self) -> Recipe | None:
        """The preprocessing as a recipe; None where only the model's own processor can do it."""
        return self._checkpoint.recipe

    @property
    def min_side(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded."""
        return self.recipe.min_side if self.recipe else None

    def largest_batch(self, most: int) -> int:
        """Return how many images, at most `most`, a pass may have: half of a CUDA GPU's free memory."""
        if self._kind != "cuda" or self.recipe is None:
            return most
        tokens, width = self._checkpoint.image_size
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(1, min(most, free // 2 // (tokens * width * _BYTES_A_NUMBER)))

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, before any cutting."""
        with self._tokenizing:
            return self._checkpoint.token_counts(texts)

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts, in as many passes as they need."""
        tower = self._towers.texts
        budget = _TOKENS.get(self._kind, _TOKENS_ELSEWHERE)
        if not isinstance(tower, ClipTextTower):
            lengths = self._lengths(texts)
            return encoded_by_length(
                texts, lengths, budget, lambda part: self._pass(tower, self._tokens(part))
            )
        rows = [row for part in batched(texts, TOKENIZED) for row in self._read(part, tower.end)]
        return encoded_as_trees(
            rows,
            budget,
            lambda inputs: self._pass(tower, {key: torch.from_numpy(each) for key, each in inputs.items()}),
        )

    def prepare(self, image: "Image.Image") -> Any:
        """Return an image's pixels (H, W, 3) of 8 bits, or what the image processor makes of it."""
        if recipe := self.recipe:
            return recipe.pixels(image)
        processor = self._checkpoint.image_processor
        try:
            return dict(processor(images=[image], return_tensors="pt"))
        except Exception as error:
            raise ModelError(
                f"{self._checkpoint.name} cannot preprocess an image: {one_line(error)}"
            ) from error

    def decode(self, jpegs: "Sequence[Jpeg]") -> list[Tensor | None]:
        """Return the pixels (H, W, 3) of JPEGs, decoded on the device; None for one that cannot be."""
        with self._clear_errors(), torch.inference_mode():
            return self._decoder(jpegs)

    @loaded_once
    def _decoder(self) -> DeviceDecoder:
        if self.recipe is None:
            raise ModelError(
                f"{self._checkpoint.name} prepares images in a way of its own: leave out --decode gpu"
            )
        return DeviceDecoder(self.recipe, self._device, self._decode)

    def start_images(self, prepared: Sequence[Any]) -> Callable[[], Array]:
        """Start a pass over N images; return what waits for their embeddings (N, D)."""
        tower = self._towers.images
        with self._computing(tower):
            if isinstance(tower, WholeNetwork):
                inputs = self._moved(self._joined(prepared))
                return self._fetching(tower(**inputs))
            pixels = self._pixels(prepared)
            if self._long_run is None:
                return self._fetching(tower(pixels))
            began = _event(pixels)
            return self._fetching(self._long_run(tower, pixels), began)

    @loaded_once
    def _towers(self) -> Towers:
        """The model with its weights, ready to compute."""
        on_cpu = self._kind == "cpu"
        if on_cpu:
            keep_freed_memory()
        network: Any = self._checkpoint.network(torch.float32 if on_cpu else self._dtype)
        try:
            return Towers.of(network, self._checkpoint.recipe, self._device, self._dtype)
        except (RuntimeError, AssertionError) as error:
            name = self._checkpoint.name
            raise ModelError(f"{name} cannot run on {self._device}: {one_line(error)}") from error

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text are computed."""
        if self._checkpoint.text_form.fixed:
            return [self.max_tokens] * len(texts)
        return [min(self.max_tokens, count) for count in self.token_counts(texts)]

    def _tokens(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        with self._tokenizing:
            return self._checkpoint.tokenize(texts)

    def _read(self, texts: Sequence[str], end: int) -> list[list[int]]:
        """Return the tokens of each text up to the one at which CLIP reads it."""
        return read_tokens(self._tokens(texts)["input_ids"].numpy(), end)

    def _pass(self, tower: nn.Module, inputs: Mapping[str, Tensor]) -> Array:
        with self._computing(tower):
            return self._fetching(tower(**self._moved(inputs)))()

    def _joined(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        try:
            return {key: torch.cat([image[key] for image in images]) for key in images[0]}
        except RuntimeError as error:
            raise ModelError(
                f"{self._checkpoint.name} does not scale images to one size: {one_line(error)}"
            ) from error

    def _pixels(self, prepared: Sequence[NDArray[np.uint8] | Tensor]) -> Tensor:
        """Return pixels (N, H, W, 3) on the device, where those that it decoded are already."""
        arrays = [image for image in prepared if not isinstance(image, Tensor)]
        if len(arrays) == len(prepared):
            return self._copied(arrays)
        copied = iter(self._copied(arrays) if arrays else ())
        return torch.stack([image if isinstance(image, Tensor) else next(copied) for image in prepared])

    def _copied(self, prepared: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return pixels (N, H, W, 3), copied to the device.

        To a CUDA GPU they are copied from pinned memory on a stream of their own, while it computes the pass
        before; torch keeps that memory and gives it out again once the copy is done: two buffers in turn.
        """
        shape = (len(prepared), *prepared[0].shape)
        if self._kind != "cuda":
            return torch.from_numpy(np.stack(prepared)).to(self._device)
        pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        np.stack(prepared, out=pinned.numpy())
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            pixels = pinned.to(self._device, non_blocking=True)
        computing.wait_stream(self._copies)
        pixels.record_stream(computing)
        return pixels

    @loaded_once
    def _copies(self) -> Any:
        """The stream on which images are copied to a CUDA GPU."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def _moved(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs on the device; to a CUDA GPU they are copied while the CPU goes on."""
        if self._kind != "cuda":
            return {key: tensor.to(self._device) for key, tensor in inputs.items()}
        return {
            key: tensor.pin_memory().to(self._device, non_blocking=True) for key, tensor in inputs.items()
        }

    def _fetching(self, embeddings: Tensor, began: Any = None) -> Callable[[], Array]:
        """Start to copy embeddings to the CPU; return what waits for them and returns them."""
        if self._kind != "cuda":
            return self._waiting(lambda: embeddings.to("cpu", torch.float32).numpy())
        ended = _event(embeddings)
        fetched = embeddings.to(torch.float32).to(
            "cpu", non_blocking=True
        )  # pinned, as non_blocking makes it
        arrived = _event(embeddings)

        def wait() -> Array:
            arrived.synchronize()
            if began is not None and self._long_run is not None:
                self._long_run.computed(began.elapsed_time(ended) / 1000)
            array: Array = fetched.numpy()
            return array

        return self._waiting(wait)

    def _waiting(self, wait: Callable[[], Array]) -> Callable[[], Array]:
        def waiting() -> Array:
            with self._clear_errors():
                return wait()

        return waiting

    @contextmanager
    def _computing(self, tower: nn.Module) -> Iterator[None]:
        """Compute in the dtype asked for: on a CPU transformers' modules by autocast, ours by themselves."""
        casts = self._kind == "cpu" and self._dtype != torch.float32 and not isinstance(tower, CLIP_TOWERS)
        if self._kind == "cpu" and has_share():
            _use(min(cores(), self._threads))
        with (
            self._clear_errors(),
            torch.inference_mode(),
            torch.autocast("cpu", self._dtype if casts else None, enabled=casts),
            fast_products(self._kind, self._dtype),
        ):
            yield

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self._checkpoint.name}: {self._device} is out of memory: pass a smaller --batch, or free"
                f" memory that other programs use ({one_line(error)})"
            ) from error
        except (
            RuntimeError,
            IndexError,
            ValueError,
        ) as error:  # a lost GPU, or parts that do not fit together
            raise ModelError(
                f"{self._checkpoint.name} failed on {self._device}: {one_line(error)}"
            ) from error


def _use(threads: int) -> None:
    """Let operations of the calling thread use so many threads on the CPU."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _event(tensor: Tensor) -> Any:
    """Return an event after all that is under way on a tensor's CUDA device."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))
    return event


class LongRun:
    """Runs a tower, compiled once the device has computed for `after` seconds; where that fails, as it is."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._seconds = 0.0
        self._size = 0  # of a pass of the compiled tower: another size would be compiled anew
        self._compiled: Callable[[Tensor], Tensor] | None = None

    @property
    def compiled(self) -> bool:
        """Whether the tower is compiled."""
        return self._compiled is not None

    def computed(self, seconds: float) -> None:
        """Take note of a pass."""
        self._seconds += seconds

    def __call__(self, tower: nn.Module, pixels: Tensor) -> Tensor:
        """Return the embeddings (N, D) of pixels (N, H, W, 3)."""
        if self._seconds >= self._after and self._size in (0, len(pixels)):
            try:
                if self._compiled is None:
                    logger.debug("compiling the image tower, as the run is long")
                    self._compiled, self._size = torch.compile(tower), len(pixels)
                return self._compiled(pixels)
            except Exception as error:  # there may be no compiler, no memory for it, no support for this GPU
                logger.debug("the image tower cannot be compiled: %s", one_line(error))
                self._after, self._compiled = math.inf, None
        embeddings: Tensor = tower(pixels)
        return embeddings
