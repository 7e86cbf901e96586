"""Small copies of images, read from their files, to show what was found."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fieldmarks.classification import images
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import read_bytes
from fieldmarks.classification.threads import cores
from fieldmarks.errors import ImageError


def thumbnails(files: Mapping[str, str | os.PathLike[str]]) -> dict[str, bytes | Failure]:
    """Return a small JPEG of each image by its name, or a Failure where its file cannot be read."""
    with ThreadPoolExecutor(cores(), thread_name_prefix="fieldmarks") as pool:
        return dict(zip(files, pool.map(_thumbnail, files, files.values()), strict=True))


def _thumbnail(name: str, file: str | os.PathLike[str]) -> bytes | Failure:
    try:
        with images.decoded(read_bytes(Path(file)), min_side=images.THUMBNAIL) as image:
            return images.thumbnail(image)
    except ImageError as error:
        return Failure(name, str(error))
