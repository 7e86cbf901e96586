"""Drawings: the same from the same random state, and different wherever creatures differ."""

import random
import time

import pytest
from PIL import Image, ImageChops

from fieldmarks.demo.drawing import SIZE, draw, oval, rounded
from fieldmarks.demo.species import WORDINGS, Creature, demo_species, random_creature

CREATURE = next(iter(demo_species().values()))


def _differing(image: Image.Image, other: Image.Image) -> int:
    """The number of pixels in which any channel of two images clearly differs."""
    red, green, blue = ImageChops.difference(image, other).split()
    strongest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return sum(strongest.histogram()[25:])


def test_an_image_is_rgb_and_square() -> None:
    image = draw(CREATURE, random.Random(0))
    assert image.mode == "RGB"
    assert image.size == (SIZE, SIZE) == (224, 224)


def test_the_same_state_gives_the_same_image() -> None:
    assert draw(CREATURE, random.Random(5)).tobytes() == draw(CREATURE, random.Random(5)).tobytes()


def test_another_state_gives_another_image() -> None:
    assert _differing(draw(CREATURE, random.Random(5)), draw(CREATURE, random.Random(6))) > 1000


@pytest.mark.parametrize("attribute", WORDINGS)
def test_every_value_shows(attribute: str) -> None:
    plain = {name: next(iter(values)) for name, values in WORDINGS.items()}
    creatures = [Creature.from_dict({**plain, attribute: value}) for value in WORDINGS[attribute]]
    images = [draw(creature, random.Random(3)).resize((64, 64)) for creature in creatures]
    for index, image in enumerate(images):
        assert all(_differing(image, other) >= 16 for other in images[:index])


@pytest.mark.slow
def test_every_creature_can_be_drawn_quickly() -> None:
    rng = random.Random(0)
    start = time.process_time()
    for _ in range(50):
        draw(random_creature(rng), rng)
    assert time.process_time() - start < 5


def test_an_oval_turns_about_its_centre() -> None:
    xs, ys = zip(*oval(2.0, 3.0, 1.0, 0.5, turn=1.0), strict=True)
    assert sum(xs) / len(xs) == pytest.approx(2.0)
    assert sum(ys) / len(ys) == pytest.approx(3.0)


def test_rounding_keeps_inside_the_corners() -> None:
    square = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    points = rounded(square, times=2)
    assert len(points) == 16
    assert max(abs(x) + abs(y) for x, y in points) < 2.0
