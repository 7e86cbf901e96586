"""Decoding JPEGs on the GPU that embeds them, by nvJPEG; everything behind it as Pillow and a recipe do it.

    bytes ──► decoded ──────► upright ──► scaled with antialias ──► cropped, rounded to 8 bits
              (3, h, w)       (3, h, w)   (n, 3, h, w) float32      (H, W, 3)

The result is approximate: nvJPEG rounds and spreads colours in its own way, and torch scales without the
rounding between rows and columns that Pillow has. How far the embeddings are off is measured by
`python -m tests.benchmarks.peers --gpu`. Images of one size are scaled together, as many as PIXELS allows.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from fieldmarks.classification.jpeg import Jpeg
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.errors import ModelError
from fieldmarks.hub import one_line

Decode = Callable[[list[Tensor], str], list[Tensor]]

PIXELS: Final = 32 * 2**20  # decoded at once: 100 MB as they are, and four times that in float32
_FILTERS: Final = {2: "bilinear", 3: "bicubic"}  # by PIL.Image.Resampling
# What makes an image upright, by EXIF's orientation: rows and columns exchanged, then the axes to reverse.
_UPRIGHT: Final[dict[int, tuple[bool, list[int]]]] = {
    1: (False, []),
    2: (False, [-1]),
    3: (False, [-2, -1]),
    4: (False, [-2]),
    5: (True, []),
    6: (True, [-1]),
    7: (True, [-2, -1]),
    8: (True, [-2]),
}


def nvjpeg(encoded: list[Tensor], device: str) -> list[Tensor]:
    """Return JPEGs, each a tensor of its bytes, as RGB (3, h, w) on a CUDA device."""
    torchvision: Any = import_module("torchvision.io")
    decoded: list[Tensor] = torchvision.decode_jpeg(encoded, torchvision.ImageReadMode.RGB, device=device)
    return decoded


class DeviceDecoder:
    """Makes JPEGs the pixels that a model reads, on its device; `decode` is the decoder itself.

    It gets images of at most `at_once` pixels together. Raises ModelError with the first ones if it cannot
    decode anything.
    """

    def __init__(
        self, recipe: Recipe, device: str, decode: Decode = nvjpeg, *, at_once: int = PIXELS
    ) -> None:
        self._at_once = at_once
        self._recipe = recipe
        self._device = device
        self._decode = decode
        self._is_tried = False

    def __call__(self, jpegs: Sequence[Jpeg]) -> list[Tensor | None]:
        """Return the pixels (H, W, 3) of each, as 8-bit numbers; None for one that cannot be decoded."""
        if jpegs and not self._is_tried:
            self._try()
        return [pixels for part in self._parts(jpegs) for pixels in self._prepared(part)]

    def _parts(self, jpegs: Sequence[Jpeg]) -> Iterator[list[Jpeg]]:
        """Yield images in their order, together as many as `at_once` allows."""
        part: list[Jpeg] = []
        pixels = 0
        for jpeg in jpegs:
            if part and pixels + jpeg.pixels > self._at_once:
                yield part
                part, pixels = [], 0
            part.append(jpeg)
            pixels += jpeg.pixels
        if part:
            yield part

    def _try(self) -> None:
        """Decode an image that any decoder can. Raises ModelError."""
        file = io.BytesIO()
        Image.new("RGB", (16, 16), "white").save(file, "JPEG")
        try:
            self._decode([_bytes(file.getvalue())], self._device)
        except torch.OutOfMemoryError:
            raise
        except (ImportError, OSError, RuntimeError) as error:
            raise ModelError(
                f"this installation of torchvision cannot decode on {self._device}: {one_line(error)}:"
                " leave out --decode gpu"
            ) from error
        self._is_tried = True

    def _prepared(self, part: Sequence[Jpeg]) -> list[Tensor | None]:
        """Return what `__call__` does of images that are decoded at once; after an error, one by one."""
        try:
            decoded = self._decode([_bytes(jpeg.data) for jpeg in part], self._device)
            return list(self._scaled(list(map(upright, decoded, [jpeg.orientation for jpeg in part]))))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # which does not say of which image it is
            if len(part) == 1:
                return [None]
            return [pixels for jpeg in part for pixels in self._prepared([jpeg])]

    def _scaled(self, images: list[Tensor]) -> list[Tensor]:
        rows_of: dict[torch.Size, list[int]] = {}
        for row, image in enumerate(images):
            rows_of.setdefault(image.shape, []).append(row)
        result = images[:]
        for rows in rows_of.values():
            pixels = scaled(torch.stack([images[row] for row in rows]), self._recipe)
            for row, image in zip(rows, pixels, strict=True):
                result[row] = image
        return result


def upright(image: Tensor, orientation: int) -> Tensor:
    """Return an image (C, h, w) as EXIF's orientation says it is to be seen."""
    is_exchanged, reversed_axes = _UPRIGHT[orientation]
    image = image.transpose(-1, -2) if is_exchanged else image
    return image.flip(reversed_axes) if reversed_axes else image


def scaled(images: Tensor, recipe: Recipe) -> Tensor:
    """Return upright images (n, 3, h, w) of one size, of 8-bit numbers, as a recipe's pixels (n, H, W, 3)."""
    *_, height, width = images.shape
    size, starts, lengths = recipe.frame(width, height)
    whole = interpolate(images.float(), size, mode=_FILTERS[recipe.resample], antialias=True)
    rows, columns = (slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
    return whole[:, :, rows, columns].round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
