"""A recipe gives the model what transformers' own image processor gives it, pixel for pixel."""

import io
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_processing_backends import PilBackend
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from fieldmarks.classification import images
from fieldmarks.classification.preprocess import EXTENT, Recipe, recipe_of
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import demo_species, entry

Floats = NDArray[np.floating[Any]]


def _recipe(processor: PilBackend) -> Recipe:
    recipe = recipe_of(processor)
    assert recipe is not None
    return recipe


def _inputs(recipe: Recipe, image: Image.Image) -> Floats:
    """What the model computes with, (3, H, W)."""
    scale, shift = recipe.scale_and_shift
    return np.moveaxis(recipe.pixels(image) * scale + shift, -1, 0)


def _theirs(processor: Any, image: Image.Image) -> Floats:
    """The same from transformers."""
    inputs: Floats = processor(images=[image], return_tensors="np")["pixel_values"][0]
    return inputs


def _levels(processor: PilBackend, image: Image.Image, seen: Image.Image | None = None) -> Floats:
    """How far each value is from transformers' in levels of 255; `seen` is the same picture, drafted."""
    recipe = _recipe(processor)
    scale, _ = recipe.scale_and_shift
    difference = _inputs(recipe, seen or image) - _theirs(processor, image)
    return np.abs(difference / scale[:, None, None])


def _noise(width: int, height: int) -> Image.Image:
    """The picture that forgives least: one pixel off changes it by 85 levels in the mean."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def _creature(number: int, width: int, height: int) -> Image.Image:
    name, creature = list(demo_species().items())[number]
    return draw(creature, random.Random(name)).resize((width, height), Image.Resampling.BICUBIC)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_the_recipe_of_clip() -> None:
    processor = CLIPImageProcessorPil()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert _recipe(processor) == Recipe(224, (224, 224), 3, 1 / 255, mean, std)
    assert _recipe(processor).min_side == 448


@pytest.mark.slow
def test_real_photos(check_data: Path) -> None:
    photos = check_data / "photos"
    paths = [*photos.glob("imagenet-sample/*"), *photos.glob("clothing/hat/*")]
    assert len(paths) >= 140
    seen = [images.decode(path.read_bytes()) for path in paths]
    levels = np.stack([_levels(CLIPImageProcessorPil(), image) for image in seen])  # (N, 3, H, W)
    assert levels.max() < 2.001
    assert (levels > 0.001).mean() < 1e-4
    high = np.array([image.height >= image.width for image in seen])
    assert 0 < high.sum() < len(seen)
    assert levels[high].max() < 0.001  # nothing but the rounding of float32


USUAL = [(500, 375), (375, 500), (300, 300), (301, 224), (224, 301), (447, 1200)]
AS_SMALL_AS_THE_TARGET = [(224, 224), (225, 224), (224, 225), (100, 60), (60, 100), (1, 1)]
NARROW = [(3000, 15), (15, 3000)]


@pytest.mark.slow
@pytest.mark.parametrize("size", USUAL + AS_SMALL_AS_THE_TARGET + NARROW)
def test_every_shape(size: tuple[int, int]) -> None:
    levels = _levels(CLIPImageProcessorPil(), _noise(*size))
    assert levels.max() < 2.001
    assert levels.mean() < 0.02


@pytest.mark.slow
@given(st.integers(1, 600), st.integers(1, 600), st.integers(8, 70))
def test_offset_and_size_agree_whatever_the_picture(width: int, height: int, edge: int) -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size=edge)
    assert _levels(processor, _noise(width, height)).mean() < 0.05


@given(st.integers(1, 400), st.integers(1, 400), st.integers(8, 70), st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=50)
def test_crops_smaller_than_the_shorter_side(
    width: int, height: int, edge: int, crop_height: int, crop_width: int
) -> None:
    crop = {"height": min(edge, crop_height), "width": min(edge, crop_width)}
    processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size=crop)
    # Of pictures over twice as high as wide, one scales rows first and the other columns: levels are off by
    # up to 0.5 in the mean, and those of a few pixels by more. A crop that is one pixel off is off by 85.
    assert _levels(processor, _noise(width, height)).mean() < 10


@pytest.mark.parametrize(
    "processor",
    [
        SiglipImageProcessorPil(),
        ViTImageProcessorPil(),
        ViTImageProcessorPil(size={"height": 60, "width": 90}, do_normalize=False),
        ChineseCLIPImageProcessorPil(),
        BitImageProcessorPil(size={"shortest_edge": 256}),
    ],
    ids=["siglip", "vit", "no normalisation", "chinese clip", "larger than the crop"],
)
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (90, 60)])
def test_processors_of_other_models(processor: PilBackend, size: tuple[int, int]) -> None:
    levels = _levels(processor, _noise(*size))
    assert levels.max() < 2.001
    assert levels.mean() < 0.002


@pytest.mark.parametrize(
    ("form", "modes"),
    [("JPEG", ("L", "CMYK")), ("PNG", ("RGBA", "LA", "P", "1")), ("TIFF", ("I", "CMYK")), ("GIF", ("P",))],
)
def test_every_mode(form: str, modes: tuple[str, ...]) -> None:
    for mode in modes:
        grey = mode == "I"  # which Pillow makes of grey only
        picture = _creature(0, 300, 260)
        data = _saved((picture.convert("L") if grey else picture).convert(mode), form)
        assert _levels(CLIPImageProcessorPil(), images.decode(data)).max() < 2.001


class _Coarse(CLIPImageProcessorPil):
    """A processor with a step of its own."""

    def resize(self, *args: Any, **kwargs: Any) -> Any:
        return super().resize(*args, **kwargs) // 2 * 2


@pytest.mark.parametrize(
    "processor",
    [
        _Coarse(),
        ConvNextImageProcessorPil(),
        Siglip2ImageProcessorPil(),
        object(),
        CLIPImageProcessorPil(do_resize=False),
        CLIPImageProcessorPil(do_rescale=False),
        CLIPImageProcessorPil(do_pad=True, pad_size={"height": 300, "width": 300}),
        CLIPImageProcessorPil(resample=Image.Resampling.NEAREST),
        CLIPImageProcessorPil(resample=Image.Resampling.LANCZOS),
        CLIPImageProcessorPil(do_center_crop=False),
        CLIPImageProcessorPil(crop_size=225),
        CLIPImageProcessorPil(size={"shortest_edge": 224, "longest_edge": 300}),
        CLIPImageProcessorPil(size={"longest_edge": 224}),
        CLIPImageProcessorPil(rescale_factor="1/255"),  # type: ignore[arg-type]
        CLIPImageProcessorPil(rescale_factor=10**400),
        CLIPImageProcessorPil(image_mean=[10**400, 0.5, 0.5]),
        CLIPImageProcessorPil(image_mean=0.5),
        CLIPImageProcessorPil(image_mean=[0.5]),
        CLIPImageProcessorPil(image_std=[0.5, 0.5, 0.0]),
        CLIPImageProcessorPil(image_mean=["0.5", "0.5", "0.5"]),  # type: ignore[list-item]
    ],
)
def test_what_is_beyond_a_recipe_is_left_to_the_processor(processor: Any) -> None:
    assert recipe_of(processor) is None


def test_the_recipe_of_openais_own_configuration(check_data: Path) -> None:
    processor = CLIPImageProcessorPil.from_pretrained(check_data / "clip-tokenizer")
    assert recipe_of(processor) == _recipe(CLIPImageProcessorPil())


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1803, 1201), (1201, 1803), (1001, 1000)])
def test_a_drafted_jpeg_of_any_orientation(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _saved(_creature(1, *size), "JPEG", exif=exif)
    whole, drafted = images.decode(data), images.decode(data, min_side=448)
    assert drafted.size == tuple(-(-side // 2) for side in whole.size)
    left, top, right, bottom = drafted.info[EXTENT]
    assert (right - left, bottom - top) == (whole.width / 2, whole.height / 2)
    levels = _levels(CLIPImageProcessorPil(), whole, drafted)
    assert levels.mean() < 0.5


def test_the_extent_keeps_a_drafted_picture_in_place() -> None:
    """Without it the last column, which is partly covered, would stretch the picture."""
    data = _saved(_creature(2, 1793, 1793), "JPEG", quality=95)  # a quarter of it is 448.25 pixels
    whole, drafted = images.decode(data), images.decode(data, min_side=448)
    with_extent = _levels(CLIPImageProcessorPil(), whole, drafted).mean()
    del drafted.info[EXTENT]
    assert with_extent < 0.8 * _levels(CLIPImageProcessorPil(), whole, drafted).mean()


class Demo:
    """The shipped CLIP as transformers loads it, with its recipe."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = CLIPModel.from_pretrained(folder)
        self.tokenizer: Any = CLIPTokenizer.from_pretrained(folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        self.recipe = _recipe(self.processor)

    @torch.inference_mode()
    def images(self, inputs: Iterable[Floats]) -> Floats:
        """The unit embeddings (N, D) of pictures that are prepared."""
        given = torch.from_numpy(np.stack(list(inputs)))
        return _unit(self.model.get_image_features(pixel_values=given).pooler_output.double().numpy())

    @torch.inference_mode()
    def texts(self, texts: tuple[str, ...]) -> Floats:
        """The embeddings (M, D) of texts."""
        inputs = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        embeddings: Floats = self.model.get_text_features(**inputs).pooler_output.double().numpy()
        return embeddings

    def cosine_errors(self, files: list[bytes]) -> Floats:
        """What drafting changes in the embedding of each file's picture."""
        drafted = [_inputs(self.recipe, images.decode(data, min_side=self.recipe.min_side)) for data in files]
        whole = [_theirs(self.processor, Image.open(io.BytesIO(data))) for data in files]
        errors: Floats = 1 - (self.images(drafted) * self.images(whole)).sum(axis=1)
        return errors


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.fixture(scope="module")
def demo(demo_clip: Path) -> Demo:
    return Demo(demo_clip)


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", [0, 2])
def test_12_megapixels_drafted(subsampling: int, demo: Demo) -> None:
    sizes = [(4032, 3024), (3000, 4001)]
    files = [
        _saved(_creature(n, *size), "JPEG", quality=90, subsampling=subsampling)
        for n, size in enumerate(sizes)
    ]
    drafted = [images.decode(data, min_side=demo.recipe.min_side).size for data in files]
    assert drafted == [(504, 378), (375, 501)]
    assert demo.cosine_errors(files).max() < 1e-4


@pytest.mark.slow
def test_photos_drafted(check_data: Path, demo: Demo) -> None:
    paths = sorted((check_data / "photos/clothing").glob("*/*"))[::8]
    assert demo.cosine_errors([path.read_bytes() for path in paths]).max() < 1e-4


@pytest.mark.slow
def test_no_answer_of_the_demo_changes(demo: Demo) -> None:
    species = demo_species()
    weights = _unit(np.stack([demo.texts(entry(name)).mean(axis=0) for name in species]))  # (C, D)
    drawn = [draw(specy, random.Random(f"{name} {n}")) for name, specy in species.items() for n in range(5)]
    # A model of 64 pixels asks for 128 at least: these are drafted to a half.
    files = [_saved(image.resize((401, 301)), "JPEG", quality=95) for image in drawn]
    seen = drawn + [images.decode(data, min_side=demo.recipe.min_side) for data in files]
    whole = drawn + [images.decode(data) for data in files]
    assert {image.size for image in seen} == {(224, 224), (201, 151)}
    ours = demo.images(_inputs(demo.recipe, image) for image in seen) @ weights.T  # (N, C)
    theirs = demo.images(_theirs(demo.processor, image) for image in whole) @ weights.T
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).all()
    truth = np.tile(np.repeat(np.arange(len(species)), 5), 2)
    assert (theirs.argmax(axis=1) == truth).mean() > 0.9
