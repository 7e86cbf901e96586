"""Which JPEGs are left to a GPU: plain ones alone, with the size and orientation that Pillow finds."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.classification.hostile_images import saved

from fieldmarks.classification.jpeg import plain_jpeg

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


def _photo(mode: str = "RGB", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def _turned(value: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"icc_profile": b"x" * 200}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_has_the_size_that_pillow_finds(mode: str, options: dict[str, Any]) -> None:
    jpeg = plain_jpeg(_photo(mode, **options))
    assert jpeg
    assert (jpeg.width, jpeg.height, jpeg.orientation) == (60, 40, 1)


@pytest.mark.parametrize("value", range(10))
def test_the_orientation_is_what_turns_the_image_in_pillow(value: int) -> None:
    data = _photo(exif=_turned(value))
    jpeg = plain_jpeg(data)
    assert jpeg
    assert jpeg.orientation == (value if 1 <= value <= 8 else 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_photo(progressive=True), id="progressive"),
        pytest.param(_photo("CMYK"), id="CMYK"),
        pytest.param(_photo(keep_rgb=True), id="RGB"),
        pytest.param(_photo(xmp=XMP), id="turned by XMP"),
        pytest.param(_photo()[:-300], id="truncated"),
        pytest.param(_photo(size=(2, 600)), id="narrow"),
        pytest.param(saved("PNG", "RGB", 8), id="PNG"),
        pytest.param(_photo().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), id="12 bits"),
        pytest.param(_photo().replace(b"\x08\x00\x28\x00\x3c", b"\x08\0\0\x00\x3c"), id="empty"),
        pytest.param(_photo().replace(b"\x08\x00\x28\x00\x3c", b"\x08\x7f\xff\x7f\xff"), id="too large"),
        pytest.param(_photo(exif=b"Exif\0\0not TIFF at all"), id="damaged EXIF"),
        pytest.param(b"\xff\xd8\xff", id="a beginning"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_all_else_is_left_to_the_cpu(data: bytes) -> None:
    assert plain_jpeg(data) is None


def test_an_orientation_in_exif_is_taken_before_that_in_xmp() -> None:
    jpeg = plain_jpeg(_photo(exif=_turned(3), xmp=XMP))
    assert jpeg
    assert jpeg.orientation == 3


@given(data=st.binary(max_size=40), at=st.integers(0, 700), cut=st.integers(0, 3000))
def test_damage_ends_in_an_answer(data: bytes, at: int, cut: int) -> None:
    whole = _photo(exif=_turned(8))
    jpeg = plain_jpeg((whole[:at] + data + whole[at + len(data) :])[: cut or None])
    assert jpeg is None or (jpeg.pixels > 0 and 1 <= jpeg.orientation <= 8)


def test_real_photos_agree_with_pillow(check_data: Path) -> None:
    paths = sorted((check_data / "photos").rglob("*.jp*g"))[::8]
    assert paths
    for path in paths:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            jpeg = plain_jpeg(data)
            assert jpeg, path
            assert (jpeg.width, jpeg.height) == image.size
            assert jpeg.orientation == image.getexif().get(0x0112, 1)
