"""Models and pictures that several tests of classification share."""

from pathlib import Path

import pytest
from PIL import Image

CLASSES = {
    "tree frog": ["protruding eyes", "a wide mouth", "sticky toe pads"],
    "owl": ["big eyes", "a hooked beak"],
    "newt": ["a long tail"],
}


@pytest.fixture(params=["tiny_clip", "demo_clip"])
def clip(request: pytest.FixtureRequest) -> Path:
    """A model of random weights and the shipped one, in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def classes() -> dict[str, list[str]]:
    """Three classes with one to three descriptors."""
    return {name: list(descriptors) for name, descriptors in CLASSES.items()}


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five different pictures as files, higher than wide: those are prepared in transformers' very pixels."""
    paths = []
    for number, start in enumerate((-2.0, -1.5, -1.0, -0.5, 0.0)):
        image = Image.effect_mandelbrot((40 + number, 60), (start, -1.5, start + 1.2, 1.5), 60)
        tint = Image.new("RGB", image.size, (50 * number, 200 - 40 * number, 90))
        path = tmp_path / f"picture-{number}.png"
        Image.blend(image.convert("RGB"), tint, 0.5).save(path)
        paths.append(path)
    return paths
