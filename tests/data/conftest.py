"""Small labelled pictures that the tests of data sets share."""

import io
from pathlib import Path

import pytest
from PIL import Image

LABELS = {"tree frog": 3, "owl": 2, "newt": 1}


def png(number: int) -> bytes:
    """Return a picture of its own for every number up to 255."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 255 - number, 7)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder per class with three, two and one picture."""
    folder = tmp_path / "animals"
    number = 0
    for label, count in LABELS.items():
        (folder / label).mkdir(parents=True)
        for place in range(count):
            (folder / label / f"{place}.png").write_bytes(png(number))
            number += 1
    return folder
