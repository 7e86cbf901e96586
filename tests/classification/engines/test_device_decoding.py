"""Decoding on the device, with Pillow in the place of nvJPEG: all of the way but the decoder itself."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fieldmarks.classification import images
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.embedding_manifest import Manifest
from fieldmarks.classification.engines.checkpoint import Checkpoint
from fieldmarks.classification.engines.device_decoding import DeviceDecoder, upright
from fieldmarks.classification.engines.openvino import cosine_error
from fieldmarks.classification.engines.torch import TorchEngine
from fieldmarks.classification.jpeg import Jpeg, plain_jpeg
from fieldmarks.classification.pipeline import Preparation, Prepared, run
from fieldmarks.classification.preprocess import Recipe, RecipePreprocessing
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError

CROPPED = Recipe(32, (32, 32), 3, 1 / 255, None, None)
SQUASHED = Recipe((24, 40), None, 2, 1 / 255, None, None)


def by_pillow(encoded: list[Tensor], device: str) -> list[Tensor]:
    """Decode as nvJPEG does: RGB (3, h, w), not turned; an error does not say of which image it is."""
    decoded = []
    for data in encoded:
        try:
            with Image.open(io.BytesIO(data.numpy().tobytes())) as image:
                pixels = np.array(image.convert("RGB"))
        except Exception as error:
            raise RuntimeError("decoding failed") from error
        decoded.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return decoded


def refusing(encoded: list[Tensor], device: str) -> list[Tensor]:
    """Decode nothing of more than 300 pixels a row, as if these were damaged."""
    decoded = by_pillow(encoded, device)
    if any(image.shape[2] > 300 for image in decoded):
        raise RuntimeError("nvJPEG failed")
    return decoded


def _jpeg(size: tuple[int, int], orientation: int = 1, mode: str = "RGB") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 60).convert(mode)
    file = io.BytesIO()
    smooth.save(file, "JPEG", exif=exif)
    return file.getvalue()


def _plain(data: bytes) -> Jpeg:
    jpeg = plain_jpeg(data)
    assert jpeg
    return jpeg


def _difference(pixels: Tensor | None, data: bytes, recipe: Recipe) -> NDArray[Any]:
    assert pixels is not None
    ours: NDArray[np.int64] = pixels.numpy().astype(np.int64)
    theirs = recipe.pixels(images.decode(data)).astype(np.int64)
    assert ours.shape == theirs.shape
    difference: NDArray[np.int64] = np.abs(ours - theirs)
    return difference


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(orientation: int) -> None:
    with Image.open(io.BytesIO(_jpeg((7, 5), orientation))) as image:
        stored = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        turned = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(upright(stored, orientation).permute(1, 2, 0).numpy(), turned)


@pytest.mark.parametrize("recipe", [CROPPED, SQUASHED])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_of_the_recipe(recipe: Recipe, mode: str) -> None:
    sizes = [(80, 60), (60, 81), (33, 100), (20, 16), (80, 60)]
    files = [_jpeg(size, 1 + number, mode) for number, size in enumerate(sizes)]
    found = DeviceDecoder(recipe, "cpu", by_pillow)([_plain(data) for data in files])
    for pixels, data in zip(found, files, strict=True):
        difference = _difference(pixels, data, recipe)
        assert difference.mean() < 0.3
        assert difference.max() <= 8


def test_images_are_decoded_in_parts_of_bounded_size() -> None:
    sizes: list[int] = []

    def counted(encoded: list[Tensor], device: str) -> list[Tensor]:
        decoded = by_pillow(encoded, device)
        sizes.append(sum(image.shape[1] * image.shape[2] for image in decoded))
        return decoded

    files = [_jpeg((100, 100))] * 20 + [_jpeg((400, 100))]
    found = DeviceDecoder(CROPPED, "cpu", counted, at_once=35_000)([_plain(data) for data in files])
    assert len(found) == 21
    assert sizes[1:] == [30_000] * 6 + [20_000, 40_000]  # the first is a trial


def test_an_image_that_cannot_be_decoded_is_none_and_the_others_are_there() -> None:
    files = [_jpeg((80, 60)), _jpeg((400, 60)), _jpeg((90, 60))]
    first, second, third = DeviceDecoder(CROPPED, "cpu", refusing)([_plain(data) for data in files])
    assert second is None
    assert _difference(first, files[0], CROPPED).max() <= 8
    assert _difference(third, files[2], CROPPED).max() <= 8


@pytest.mark.parametrize("error", [RuntimeError("not compiled with nvJPEG"), ImportError("no torchvision")])
def test_a_decoder_that_decodes_nothing_is_one_error(error: Exception) -> None:
    def broken(encoded: list[Tensor], device: str) -> list[Tensor]:
        raise error

    with pytest.raises(ModelError, match=r"cannot decode on cpu: .*: leave out --decode gpu"):
        DeviceDecoder(CROPPED, "cpu", broken)([_plain(_jpeg((80, 60)))])


def test_a_full_gpu_is_one_error(tiny_clip: Path) -> None:
    def full(encoded: list[Tensor], device: str) -> list[Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    engine = TorchEngine(Checkpoint(str(tiny_clip)), device="cpu", dtype="float32", decode=full)
    with pytest.raises(ModelError, match="is out of memory: pass a smaller --batch"):
        engine.decode([_plain(_jpeg((80, 60)))])


def test_torchvision_decodes_as_it_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    files = [_jpeg((80, 60)), _jpeg((50, 60), 6, "L")]
    found = DeviceDecoder(CROPPED, "cpu")([_plain(data) for data in files])
    for pixels, data in zip(found, files, strict=True):
        assert _difference(pixels, data, CROPPED).mean() < 0.5


def _embeddings(engine: TorchEngine, sources: Sequence[Path], *, by_device: bool) -> list[Array | Failure]:
    recipe = engine.recipe
    assert recipe
    preparation = Preparation(RecipePreprocessing(recipe, None), by_device=by_device)
    batches = run(
        [str(source) for source in sources],
        lambda name: preparation(name, name, small=name.endswith("0.jpg")),
        engine.start_images,
        batch=4,
        under_way=1,
        complete=(lambda part: preparation.complete(part, engine.decode)) if by_device else lambda _: None,
    )
    found: list[Array | Failure] = []
    for items, vectors in batches:
        rows = iter(() if vectors is None else vectors)
        found += [next(rows) if isinstance(item, Prepared) else item for item in items]
        assert all(item.thumbnail for item in items if isinstance(item, Prepared) and "0.jpg" in item.image)
    return found


def test_files_of_all_kinds_come_out_in_order_whatever_decodes_them(tiny_clip: Path, tmp_path: Path) -> None:
    files = {
        "0.jpg": _jpeg((80, 60)),
        "1.png": b"not an image",
        "2.jpg": _jpeg((400, 300), 6),  # which the device refuses
        "3.jpg": _jpeg((70, 90), 3),
        "4.jpg": _jpeg((400, 300))[:-200],  # and what nobody can decode
        "5.jpg": _jpeg((70, 90), 8, "L"),
        "6.jpg": _jpeg((60, 60), 1, "CMYK"),
        "7.jpg": _jpeg((70, 90), 8),
        "8.jpg": _jpeg((50, 60)).replace(b"\xff\xda", b"\xff\xdb"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    sources = [tmp_path / name for name in files]
    engine = TorchEngine(Checkpoint(str(tiny_clip)), device="cpu", dtype="float32", decode=refusing)
    ours, theirs = (_embeddings(engine, sources, by_device=by_device) for by_device in (True, False))
    assert len(ours) == len(theirs) == len(files)
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(mine, Failure) or isinstance(other, Failure):
            assert mine == other
        else:
            assert cosine_error(mine[None], other[None]) < 1e-3
    assert sum(isinstance(result, Failure) for result in ours) == 3


def test_decoding_on_a_gpu_is_refused_where_there_is_none(tiny_clip: Path) -> None:
    with pytest.raises(ModelError, match="decode gpu needs an NVIDIA GPU, and the model runs on cpu here"):
        Encoder(tiny_clip, device="cpu", decode="gpu")


@pytest.mark.parametrize(
    ("made", "now", "advice"),
    [
        ("gpu", "reduced", "was made with --decode gpu: pass it again"),
        ("reduced", "gpu", "was made without --decode gpu: leave it out"),
        ("full", "reduced", "was made of images decoded at full size: choose a new folder"),
        ("gpu", "gpu", None),
    ],
)
def test_a_set_is_of_one_way_to_decode(made: str, now: str, advice: str | None) -> None:
    manifest = Manifest(model="/m", fingerprint="f", dtype="float32", decode=made, root="/")
    metadata = {"model": "/m", "fingerprint": "f", "dtype": "float32", "decode": now}
    assert manifest.difference(metadata) == advice
