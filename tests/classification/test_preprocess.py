"""A recipe gives the model what transformers' own image processor gives it, pixel for pixel."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from fieldmarks.classification import images
from fieldmarks.classification.encoder import Encoder
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
    assert _recipe(processor).least == 448


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


@pytest.mark.parametrize("size", USUAL + AS_SMALL_AS_THE_TARGET + NARROW)
def test_every_shape(size: tuple[int, int]) -> None:
    levels = _levels(CLIPImageProcessorPil(), _noise(*size))
    assert levels.max() < 2.001
    assert levels.mean() < 0.02


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
    # Of pictures a little over twice as high as wide, one scales rows first and the other columns.
    assert _levels(processor, _noise(width, height)).mean() < 0.5


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
        CLIPImageProcessorPil(image_mean=0.5),
        CLIPImageProcessorPil(image_mean=[0.5]),
        CLIPImageProcessorPil(image_std=[0.5, 0.5, 0.0]),
        CLIPImageProcessorPil(image_mean=["0.5", "0.5", "0.5"]),  # type: ignore[list-item]
    ],
)
def test_what_is_beyond_a_recipe_is_left_to_the_processor(processor: Any) -> None:
    assert recipe_of(processor) is None


def test_the_recipe_of_openais_own_configuration(check_data: Path) -> None:
    processor = Encoder(check_data / "clip-tokenizer").image_processor
    assert recipe_of(processor) == _recipe(CLIPImageProcessorPil())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1803, 1201), (1201, 1803), (1001, 1000)])
def test_a_drafted_jpeg_of_any_orientation(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _saved(_creature(1, *size), "JPEG", exif=exif)
    whole, drafted = images.decode(data), images.decode(data, least=448)
    assert drafted.size == tuple(-(-side // 2) for side in whole.size)
    left, top, right, bottom = drafted.info[EXTENT]
    assert (right - left, bottom - top) == (whole.width / 2, whole.height / 2)
    levels = _levels(CLIPImageProcessorPil(), whole, drafted)
    assert levels.mean() < 0.5


def test_the_extent_keeps_a_drafted_picture_in_place() -> None:
    """Without it the last column, which is partly covered, would stretch the picture."""
    data = _saved(_creature(2, 1793, 1793), "JPEG", quality=95)  # a quarter of it is 448.25 pixels
    whole, drafted = images.decode(data), images.decode(data, least=448)
    with_extent = _levels(CLIPImageProcessorPil(), whole, drafted).mean()
    del drafted.info[EXTENT]
    assert with_extent < 0.8 * _levels(CLIPImageProcessorPil(), whole, drafted).mean()


def _cosine_error(encoder: Encoder, ours: Floats, theirs: Floats) -> float:
    one, other = (
        encoder.encode_images([{"pixel_values": torch.from_numpy(inputs)[None]}])[0].astype(np.float64)
        for inputs in (ours, theirs)
    )
    return 1 - float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(4032, 3024), (3000, 4001)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_12_megapixels_drafted(size: tuple[int, int], subsampling: int, demo_clip: Path) -> None:
    encoder = Encoder(demo_clip, device="cpu")
    recipe = _recipe(encoder.image_processor)  # type: ignore[arg-type]
    data = _saved(_creature(3, *size), "JPEG", quality=90, subsampling=subsampling)
    drafted = images.decode(data, least=recipe.least)
    assert min(drafted.size) == -(-min(size) // 8)
    theirs = _theirs(encoder.image_processor, Image.open(io.BytesIO(data)))
    assert _cosine_error(encoder, _inputs(recipe, drafted), theirs) < 1e-4


def test_photos_drafted(check_data: Path, demo_clip: Path) -> None:
    encoder = Encoder(demo_clip, device="cpu")
    recipe = _recipe(encoder.image_processor)  # type: ignore[arg-type]
    for path in sorted((check_data / "photos/clothing").glob("*/*"))[::8]:
        data = path.read_bytes()
        drafted = images.decode(data, least=recipe.least)
        theirs = _theirs(encoder.image_processor, images.decode(data))
        assert _cosine_error(encoder, _inputs(recipe, drafted), theirs) < 1e-4


def test_no_answer_of_the_demo_changes(demo_clip: Path) -> None:
    encoder = Encoder(demo_clip, device="cpu")
    recipe = _recipe(encoder.image_processor)  # type: ignore[arg-type]
    species = demo_species()
    weights = np.stack([encoder.encode_texts(entry(name)).mean(axis=0) for name in species])  # (C, D)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    drawn = [draw(one, random.Random(f"{name} {n}")) for name, one in species.items() for n in range(5)]
    # Drafted to a half; a model of 64 pixels asks for 128 at least.
    jpegs = [_saved(image.resize((401, 301)), "JPEG", quality=95) for image in drawn]
    seen = drawn + [images.decode(data, least=recipe.least) for data in jpegs]
    whole = drawn + [images.decode(data) for data in jpegs]
    assert all(image.size == (201, 151) for image in seen[len(drawn) :])
    ours = torch.from_numpy(np.stack([_inputs(recipe, image) for image in seen]))
    theirs = torch.from_numpy(np.stack([_theirs(encoder.image_processor, image) for image in whole]))
    answers = [
        (encoder.encode_images([{"pixel_values": inputs}]) @ weights.T).argmax(axis=1)
        for inputs in (ours, theirs)
    ]
    assert (answers[0] == answers[1]).all()
    assert (answers[1][: len(drawn)] == np.repeat(np.arange(len(species)), 5)).mean() > 0.9
