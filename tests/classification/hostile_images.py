"""Small files that declare large images, written without ever holding one, and what decoding them takes.

    python -m tests.classification.hostile_images

Twelve files of different formats are decoded by twelve threads at once, and the most memory above idle is
printed, in MB, with what became of each file.
"""

import io
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from PIL import Image

MODULE: Final = "tests.classification.hostile_images"
SIDE: Final = 9_400  # pixels: 88 million in a square, nearly the most that is allowed


def png(colour_type: int, depth: int = 8, side: int = SIDE) -> bytes:
    """Return a PNG of zeros."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    rows = 100  # at a time, whose compressed bytes are the same each time: nothing before them is referred to
    assert side % rows == 0
    zeros = bytes(rows * (1 + side * samples * depth // 8))
    packer = zlib.compressobj(9, wbits=-15)
    part = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", side // rows * len(zeros) % 65_521, 1)  # Adler-32 of zeros
    body = b"\x78\xda" + side // rows * part + packer.flush() + checksum
    header = struct.pack(">IIBBBBB", side, side, depth, colour_type, 0, 0, 0)
    palette = _chunk(b"PLTE", bytes(range(6))) + _chunk(b"tRNS", b"\x80\x00")
    middle = palette if colour_type == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (_chunk(b"IHDR", header), middle, _chunk(b"IDAT", body), _chunk(b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(form: str, mode: str, side: int = SIDE, **options: Any) -> bytes:
    """Return an image of one colour as a file."""
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, form, **options)
    return file.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def scans(count: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    data = saved("JPEG", "RGB", 64, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


def icon() -> bytes:
    """Return an icon whose directory says 16 pixels, of a PNG that has 64 million."""
    data = png(6, side=8_000)
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(data), 22) + data


FILES: Final[Mapping[str, Callable[[], bytes]]] = {
    "animated.webp": lambda: saved("WEBP", "RGB", SIDE, method=0),
    "lossless.webp": lambda: saved("WEBP", "RGBA", 5_500, lossless=True, method=0),
    "colour.png": lambda: png(2),
    "alpha.png": lambda: png(6),
    "deep.png": lambda: png(6, 16, 6_000),
    "palette.png": lambda: png(3),
    "grey16.png": lambda: png(0, 16),
    "progressive.jpg": lambda: saved("JPEG", "RGB", SIDE, progressive=True, subsampling=0, quality=5),
    "turned.jpg": lambda: saved("JPEG", "RGB", 8_000, quality=5, exif=_turned()),
    "one.gif": lambda: saved("GIF", "P"),
    "lzw.tif": lambda: saved("TIFF", "CMYK", 9_000, compression="tiff_lzw"),
    "big.ico": icon,
}  # fmt: skip


def resident() -> int:
    """Return this process's memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def most_above_idle(files: list[bytes]) -> tuple[float, list[str]]:
    """Return the most MB that decoding files takes, each in its thread, and what became of each."""
    from fieldmarks.classification import images
    from fieldmarks.errors import ImageError

    def read(data: bytes) -> str:
        try:
            with images.decoded(data) as image:
                return f"{image.width} x {image.height}"
        except ImageError as error:
            return str(error)

    read(saved("WEBP", "RGB", 8))  # plugins are loaded
    idle = most = resident()
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, resident())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(len(files)) as pool:
            outcomes = list(pool.map(read, files))
    finally:
        over.set()
        watcher.join()
    return (most - idle) / 1e6, outcomes


def main(folder: str) -> None:
    """Decode the files of a folder at once and print the result."""
    paths = sorted(Path(folder).iterdir())
    memory, outcomes = most_above_idle([path.read_bytes() for path in paths])
    for path, outcome in zip(paths, outcomes, strict=True):
        print(f"{path.name:16} {path.stat().st_size:9,} bytes  {outcome}")
    print(f"{memory:.0f} MB above idle")


def write(folder: Path) -> None:
    """Write the hostile files."""
    for name, make in FILES.items():
        (folder / name).write_bytes(make())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory() as made:
            write(Path(made))
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", MODULE, made],
                check=True,
            )
