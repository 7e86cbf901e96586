"""Which files are images: Pillow's formats, each taken in or left out; suffixes and beginnings."""

import io
from collections.abc import Mapping
from typing import Final

import pytest
from PIL import Image

from fieldmarks.classification.sources import (
    HEAD,
    HEIF,
    SUFFIXES,
    SUFFIXES_OF,
    format_of,
    may_be_image,
    other_kind,
    suffix_of,
)

# What else Pillow registers.
LEFT_OUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("EPS", "WMF"), "drawn by another program or by the system, not decoded"),
    **dict.fromkeys(("BUFR", "FITS", "GRIB", "HDF5", "MCIDAS", "SPIDER"), "measurements, not photos"),
    **dict.fromkeys(("DCX", "FLI", "MPEG"), "several pages or a film"),
    **dict.fromkeys(("BLP", "DDS", "FTEX", "GBR"), "textures and brushes"),
    **dict.fromkeys(("CUR", "ICNS", "XBM", "XPM", "XVTHUMB"), "cursors, icons and thumbnails"),
    **dict.fromkeys(("IM", "IMT", "IPTC", "MSP", "PCD", "PIXAR"), "no longer in use, and hardly tested"),
}


def test_every_format_of_pillow_is_taken_in_or_left_out_with_a_reason() -> None:
    Image.init()
    assert Image.OPEN.keys() - SUFFIXES_OF.keys() - LEFT_OUT.keys() == set()
    assert SUFFIXES_OF.keys() & LEFT_OUT.keys() == set()


def test_every_suffix_that_pillow_registers_for_them_is_taken() -> None:
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in SUFFIXES_OF}
    assert registered <= SUFFIXES
    assert not any(map(may_be_image, [".txt", ".mov", ".nef", ".pdf"]))
    assert may_be_image("")
    assert may_be_image(".bak")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "BMP", "QOI"])
def test_formats_are_known_by_their_beginning(name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, name)
    assert format_of(file.getvalue()[:HEAD]) == name
    assert other_kind(file.getvalue()[:HEAD]) in (None, "a video; save its frames as images")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.7", "a PDF; save its pages as images"),
        (b"PK\x03\x04", "an archive; unpack it"),
        (b"\x00\x00\x00\x20ftypisom", "a video; save its frames as images"),
        (b"<svg xmlns='http://www.w3.org/20", "an SVG drawing; save it as PNG"),
        (b'<?xml version="1.0"?><svg xmlns=', "an SVG drawing; save it as PNG"),
        (b"<!DOCTYPE html>", "a web page, not the image it shows"),
        (
            "Grünfrosch 雨蛙 Laubfrosch!!".encode()[:HEAD],
            "text; if it lists images, pass its lines (on the command line: - < FILE)",
        ),
        (b"\xff\xfe\x00\x01 noise", None),
        (
            b"BM is how this text begins, and no bitmap"[:HEAD],
            "text; if it lists images, pass its lines (on the command line: - < FILE)",
        ),
    ],
)
def test_what_is_no_image_is_named(head: bytes, kind: str | None) -> None:
    assert format_of(head) is None
    assert other_kind(head) == kind


def test_heic_is_known_by_its_brand() -> None:
    assert {format_of(b"\0\0\0\x18ftyp" + brand) for brand in (b"heic", b"mif1", b"hevc")} == {HEIF}


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.JPG", ".jpg"), ("a", ""), (".hidden", ""), ("a.tar.gz", ".gz"), ("a.", ".")]
)
def test_suffixes(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
