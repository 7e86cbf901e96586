"""Preprocessing: resize, crop and normalise as a model's image processor does, in one resize without copies.

transformers scales the whole image, crops it and makes several float copies on the way. Here only those
columns are scaled that the crop keeps, to 8-bit pixels, and rescaling and normalising are left to the model
as one multiplication and one addition. Both round to 8 bits at the same places: photos at least as high as
wide agree in every pixel, wider ones but for 1 value in 10,000, by one level of 255 or two, as Pillow keeps
the edges of a box in float32. Rows are cropped afterwards: by the height Pillow 13 decides whether to scale
rows or columns first, and the other order rounds a quarter of all values differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a run that finds all embeddings in the cache loads none of these
    from PIL import Image

# Under this name an image's `info` has the box of its pixels that it covers: the last column and row of a
# JPEG that was scaled while it was decoded are covered in part.
EXTENT: Final = "fieldmarks.extent"
# And under this one a depth that was taken from the image's values; see images.py.
INFERRED: Final = "fieldmarks.depth"
# A JPEG that is scaled to no less than this many times the target changes an embedding by 5e-5 (cosine) at
# most, as measured on 372 photos with the demo's CLIP; scaled to the target itself by 2e-3.
_OVERSAMPLING: Final = 2
MAX_SIDE: Final = 4096  # pixels; a configuration that asks for more is broken or means harm
# Filters that both backends of transformers have. torchvision's differ from Pillow's by 0.004 levels in the
# mean, and by 0.25 where Pillow scales rows first: 8e-7 of an embedding (cosine) with a ViT-B/32.
_BILINEAR, _BICUBIC = 2, 3  # PIL.Image.Resampling

Box = tuple[float, float, float, float]  # left, top, right, bottom
Pair = tuple[int, int]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image processor does: scale, crop the middle, times `rescale_factor`, less mean, over std.

    `size` is the length of the shorter side, or height and width; `crop` is height and width, and always
    there where `size` is the shorter side. Without normalisation `mean` and `std` are None. Where half a
    pixel is left over, transformers crops by rounding down, torchvision to the even neighbour.
    """

    size: int | Pair
    crop: Pair | None
    resample: int
    rescale_factor: float
    mean: Triple | None
    std: Triple | None
    rounds_to_even: bool = False

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Recipe":
        """Return the recipe of a plain object, in which tuples may be lists, as JSON has them."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(**values)

    @property
    def min_side(self) -> int:
        """How short the shorter side of a JPEG may become by scaling it while it is decoded, in pixels."""
        return _OVERSAMPLING * (self.size if isinstance(self.size, int) else max(self.size))

    @property
    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rescaling and normalisation in one, `pixels * scale + shift`: two arrays (3,), one per channel."""
        mean, std = np.array(self.mean or (0.0,) * 3), np.array(self.std or (1.0,) * 3)
        with np.errstate(over="ignore"):  # the embeddings tell it, as no numbers
            return (self.rescale_factor / std).astype(np.float32), (-mean / std).astype(np.float32)

    def pixels(self, image: "Image.Image") -> NDArray[np.uint8]:
        """Return an upright RGB image as the model's pixels (H, W, 3), read-only."""
        x, y, right, bottom = image.info.get(EXTENT, (0, 0, *image.size))
        width = right - x
        (height, full_width), (top, left), (crop_height, crop_width) = self.frame(width, bottom - y)
        start, end = (x + edge * width / full_width for edge in (left, left + crop_width))
        scaled = image.resize((crop_width, height), self.resample, (start, y, end, bottom))
        return np.asarray(scaled)[top : top + crop_height]

    def frame(self, width: float, height: float) -> tuple[Pair, Pair, Pair]:
        """Return what an image is scaled to, where the crop of that begins, and its size: rows, columns."""
        scaled = self._scaled(width, height)
        crop = self.crop or scaled
        # Whole pixels, rounded as transformers rounds: one pixel off is another image to the model.
        return scaled, (self._half(scaled[0] - crop[0]), self._half(scaled[1] - crop[1])), crop

    def _half(self, margin: int) -> int:
        return round(margin / 2) if self.rounds_to_even else margin // 2

    def _scaled(self, width: float, height: float) -> Pair:
        """Return the height and width that the whole image would be scaled to."""
        if not isinstance(self.size, int):
            return self.size
        longer = int(self.size * max(width, height) / min(width, height))
        return (longer, self.size) if width <= height else (self.size, longer)


@dataclass(frozen=True, slots=True)
class RecipePreprocessing:
    """A recipe, and the size at which JPEGs are decoded for it: all that another process needs."""

    recipe: Recipe
    min_side: int | None

    def prepare(self, image: "Image.Image") -> NDArray[np.uint8]:
        """Return an upright RGB image as the model's pixels (H, W, 3)."""
        return self.recipe.pixels(image)


def recipe_of(processor: Any) -> Recipe | None:
    """Return the recipe of an image processor of transformers, or None if it does anything beyond a recipe.

    None is also for processors older than transformers 5.4, whose steps each model wrote for itself.
    """
    if not _is_plain(type(processor)) or not processor.do_resize or not processor.do_rescale:
        return None
    geometry = _geometry(processor)
    normalised = processor.do_normalize
    mean = _triple(processor.image_mean) if normalised else None
    std = _triple(processor.image_std) if normalised else None
    if geometry is None or processor.do_pad or processor.resample not in (_BILINEAR, _BICUBIC):
        return None
    factor = processor.rescale_factor
    if not _is_number(factor) or (normalised and not (mean and std and all(std))):
        return None
    return Recipe(*geometry, int(processor.resample), float(factor), mean, std)


def longest_side(processor: Any) -> float:
    """Return the longest side in pixels that an image processor's configuration names, 0 for none."""
    sizes = [dict(getattr(processor, name, None) or {}) for name in ("size", "crop_size", "pad_size")]
    sides = (side for size in sizes for side in size.values() if isinstance(side, int | float))
    return max(sides, default=0)


def _is_plain(kind: type) -> bool:
    """Whether a processor's class runs the steps of transformers' backend and adds none of its own."""
    for base in kind.__mro__:
        if base.__module__ == "transformers.image_processing_backends":
            return base.__name__ in ("PilBackend", "TorchvisionBackend")
        if any(callable(part) for name, part in vars(base).items() if name != "__init__"):
            return False
    return False


def _geometry(processor: Any) -> tuple[int | Pair, Pair | None] | None:
    """Return size and crop, or None where images come out in several sizes or smaller than the crop."""
    size = _sides(processor.size)
    if not processor.do_center_crop:
        return (size, None) if isinstance(size, tuple) else None
    crop = _sides(processor.crop_size)
    if size is None or not isinstance(crop, tuple):
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return (size, crop) if crop[0] <= height and crop[1] <= width else None


def _sides(size: Any) -> int | Pair | None:
    """Return the length of the shorter side, or height and width; None for other ways to give a size."""
    match dict(size or {}):
        case {"shortest_edge": int(edge), **rest} if edge > 0 and not rest:
            return edge
        case {"height": int(height), "width": int(width), **rest} if min(height, width) > 0 and not rest:
            return height, width
    return None


def _triple(values: Any) -> Triple | None:
    """Return one number for each of red, green and blue, or None if it is anything else."""
    match values:
        case (red, green, blue) if all(map(_is_number, (red, green, blue))):
            return float(red), float(green), float(blue)
    return None


def _is_number(value: object) -> bool:
    """Whether a configuration's value is a number that a float can hold."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1023)
