"""Archives and tables of small drawn images, for tests."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

BROKEN = b"\xff\xd8\xff and nothing more"


def png(number: int) -> bytes:
    """Return a small image that no other number has."""
    image = Image.new("RGB", (40, 36), (number * 37 % 256, number * 91 % 256, number * 13 % 256))
    image.putpixel((number % 40, number % 36), (255, 255, 255))
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write a tar with files in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_tars(folder: Path, tars: int, images: int) -> Path:
    """Write a folder of tars with so many images each; one of the second is broken."""
    folder.mkdir()
    for number in range(tars):
        files = [(f"{number}-{at:03d}.png", png(number * images + at)) for at in range(images)]
        files += [("labels.txt", b"no image")]
        files += [("broken.jpg", BROKEN)] if number == 1 else []
        write_tar(folder / f"t-{number:03d}.tar", files)
    return folder
