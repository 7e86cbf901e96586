"""Files of images for tests: 16-bit PNGs, which Pillow does not write in colour, and sixty of all kinds."""

import io
import random
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import demo_species


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png16(samples: NDArray[Any], significant: int | None = None) -> bytes:
    """Return samples (H, W) or (H, W, 2|3|4) as a PNG of 16 bits, with a chunk sBIT if `significant`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    channels = 1 if samples.ndim == 2 else samples.shape[2]
    header = struct.pack(
        ">IIBBBBB", samples.shape[1], samples.shape[0], 16, (0, 4, 2, 6)[channels - 1], 0, 0, 0
    )
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [chunk(b"IHDR", header)]
    if significant:
        chunks.append(chunk(b"sBIT", bytes([significant] * channels)))
    chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def creature(number: int, width: int, height: int) -> Image.Image:
    """Return one of the demo's creatures."""
    name, species = list(demo_species().items())[number % len(demo_species())]
    image = draw(species, random.Random(f"{name} {number}"))
    return image.resize((width, height), Image.Resampling.BICUBIC)


def sixty_files() -> list[tuple[str, bytes, Image.Image | None]]:
    """Return files of all modes, depths, orientations and transparencies, each with its name.

    The third is the image that transformers should be shown: None for what Pillow opens rightly, else the
    8-bit image of which the file was made, as transformers clips greys of more bits.
    """
    files: list[tuple[str, bytes, Image.Image | None]] = []
    number = 0

    def image() -> Image.Image:
        nonlocal number
        number += 1
        return creature(number, 240 + 7 * number, 300 - 2 * number)

    def add(name: str, data: bytes, shown: Image.Image | None = None) -> None:
        files.append((name, data, shown))

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"orientation {orientation}.jpg", saved(image(), "JPEG", quality=92, exif=exif))
        add(f"orientation {orientation}.png", saved(image(), "PNG", exif=exif))
    for mode in ("1", "L", "P", "RGB", "LA", "RGBA"):
        add(f"{mode}.png", saved(_with_alpha(image(), mode), "PNG"))
    for mode in ("1", "L", "P", "RGB", "LA", "RGBA", "CMYK", "LAB"):
        add(f"{mode}.tif", saved(_with_alpha(image(), mode), "TIFF", compression="tiff_lzw"))
    for mode in ("L", "CMYK"):
        add(f"{mode}.jpg", saved(image().convert(mode), "JPEG"))
    add("progressive.jpg", saved(image(), "JPEG", progressive=True))
    for lossless in (False, True):
        for mode in ("RGB", "RGBA"):
            add(f"{mode} {lossless}.webp", saved(_with_alpha(image(), mode), "WEBP", lossless=lossless))
    for form in ("BMP", "GIF", "TGA", "PPM", "QOI", "SGI", "AVIF", "JPEG2000", "PCX"):
        add(f"a.{form}", saved(image(), form))
    add("clear palette.png", saved(image().convert("P"), "PNG", transparency=bytes(range(256))))
    add("clear colour.png", saved(image().quantize(8).convert("RGB"), "PNG", transparency=(9, 9, 9)))
    add("clear.gif", saved(image().convert("P"), "GIF", transparency=5))
    add("two.mpo", saved(image(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]))
    for bits in (10, 12, 14, 16):
        grey = image().convert("L")
        levels = np.asarray(grey).copy()
        levels[0, 0] = 255  # which tells the depth
        wide = (levels.astype(np.uint16) << (bits - 8)) | levels >> (16 - bits)
        form = ("PNG", "TIFF", "JPEG2000", "PPM")[bits // 2 - 5]
        add(f"{bits} bits.{form}", saved(Image.fromarray(wide), form), Image.fromarray(levels).convert("RGB"))
    for bits in (10, 12, 14):
        levels = np.asarray(image()).copy()
        levels[0, 0] = 255
        wide = (levels.astype(np.uint16) << (bits - 8)) | levels >> (16 - bits)
        add(f"{bits} bits of colour.png", png16(wide), Image.fromarray(levels))
    add("float.tif", saved(image().convert("F"), "TIFF"))
    add("whole.tif", saved(image().convert("I"), "TIFF"))
    add("phone.heic", _heic(image()))
    return files


def _with_alpha(image: Image.Image, mode: str) -> Image.Image:
    result = image.convert(mode)
    if mode.endswith("A"):
        result.putalpha(Image.linear_gradient("L").resize(image.size))
    return result


def _heic(image: Image.Image) -> bytes:
    """Return a HEIC, written in another process so that nothing is registered in this one."""
    script = (
        "import sys, io; from PIL import Image; from pillow_heif import from_pillow\n"
        "file = io.BytesIO(); image = Image.open(io.BytesIO(sys.stdin.buffer.read()))\n"
        "from_pillow(image).save(file, quality=90); sys.stdout.buffer.write(file.getvalue())"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, input=saved(image, "PNG"), capture_output=True, check=True).stdout
