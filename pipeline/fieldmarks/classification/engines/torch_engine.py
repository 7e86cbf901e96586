"""The engine that computes by torch: any model that transformers loads, on a CPU or a GPU."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fieldmarks.classification.engines.allocation import keep_freed_memory
from fieldmarks.classification.engines.checkpoint import Checkpoint, ClipLike
from fieldmarks.classification.engines.products import fast_products
from fieldmarks.classification.engines.towers import ImageTower, TextTower, features
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError
from fieldmarks.pretrained import one_line

if TYPE_CHECKING:
    from PIL import Image


class TorchEngine:
    """A checkpoint computed by torch on one device, in numbers of one type.

    On a CPU the weights stay float32 and half precision is torch's autocast, which multiplies in it and adds
    up and normalises in float32: as fast as half weights, and several times closer to float32.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._loading = Lock()

    @property
    def logit_scale(self) -> float:
        """The factor of the cosines."""
        return float(self.network.logit_scale.detach().float().exp())

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have."""
        return self._checkpoint.max_tokens

    @property
    def pads_to_full_length(self) -> bool:
        """Whether texts are padded to `max_tokens`."""
        return self._checkpoint.pads_to_full_length

    @property
    def least(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded."""
        with self._loading:  # pictures are prepared in several threads
            recipe = self._checkpoint.recipe
        return recipe.least if recipe else None

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, before any cutting."""
        return [len(ids) for ids in self._checkpoint.tokenizer(list(texts), verbose=False)["input_ids"]]

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts."""
        inputs = self._checkpoint.tokenize(list(texts), "pt")
        tower = TextTower(self.network)
        with self._computing():
            return _array(tower(**self._moved(inputs)))

    def prepare(self, image: "Image.Image") -> Any:
        """Return a picture's pixels (H, W, 3) of 8 bits, or what the image processor makes of it."""
        with self._loading:
            recipe, processor = self._checkpoint.recipe, self._checkpoint.image_processor
        if recipe:
            return recipe.pixels(image)
        try:
            return dict(processor(images=[image], return_tensors="pt"))
        except Exception as error:
            raise ModelError(
                f"{self._checkpoint.name} cannot prepare a picture: {one_line(error)}"
            ) from error

    def images(self, prepared: Sequence[Any]) -> Array:
        """Return the embeddings (N, D) of N pictures."""
        network, recipe = self.network, self._checkpoint.recipe
        if recipe:
            pixels = torch.from_numpy(np.stack(prepared))  # (N, H, W, 3)
            tower = ImageTower(network, recipe).to(self._device)
            with self._computing():
                return _array(tower(**self._moved({"pixels": pixels})))
        inputs = self._joined(prepared)
        floating = {key: one.to(network.dtype) for key, one in inputs.items() if one.is_floating_point()}
        with self._computing():
            return _array(features(network.get_image_features(**self._moved(inputs | floating))))

    @cached_property
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

    def _joined(self, pictures: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        try:
            return {key: torch.cat([one[key] for one in pictures]) for key in pictures[0]}
        except RuntimeError as error:
            raise ModelError(
                f"{self._checkpoint.name} does not scale pictures to one size: {one_line(error)}"
            ) from error

    def _moved(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs on the device; to a GPU they are copied while the CPU goes on."""
        if self._device != "cuda":
            return {key: one.to(self._device) for key, one in inputs.items()}
        return {key: one.pin_memory().to("cuda", non_blocking=True) for key, one in inputs.items()}

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
                f"{self._checkpoint.name} cannot compute on {self._device}: {one_line(error)}"
            ) from error


def _array(embeddings: Tensor) -> Array:
    array: Array = embeddings.to("cpu", torch.float32).numpy()
    return array
