"""Draws a creature: the same creature and the same random state give the same picture, to the byte."""

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from fieldmarks.demo.parts import BODIES, EYES, LEGS, MOUTHS, ORNAMENTS, SKINS, TAILS, Body
from fieldmarks.demo.pen import INK, Colour, Pen, blend
from fieldmarks.demo.traits import Creature

SIZE = 224
"""Pixels along each side of a picture."""

_OVERSAMPLING = 2  # drawn larger and reduced: Pillow's own lines have hard edges

COLOURS: dict[str, Colour] = {
    "red": (222, 52, 48),
    "orange": (246, 134, 36),
    "yellow": (250, 216, 56),
    "green": (74, 172, 72),
    "blue": (58, 122, 218),
    "purple": (136, 74, 190),
    "pink": (248, 138, 188),
    "grey": (162, 164, 170),
}


def draw(creature: Creature, rng: random.Random) -> Image.Image:
    """An RGB picture of the creature, SIZE x SIZE; `rng` decides place, size, tilt, shade and background."""
    canvas = _background(rng)
    body = BODIES[creature.shape]
    side = rng.choice((-1, 1))
    pen = _pen(canvas, body, side, rng)
    fill = _shade(COLOURS[creature.colour], rng)
    limb = blend(fill, INK, 0.12)
    TAILS[creature.tail](pen.mirrored(side), body.hip, body.bottom - 0.4, limb)
    LEGS[creature.legs](pen, body, limb)
    ORNAMENTS[creature.ornament](pen, body, limb)
    _paint_body(canvas, pen, creature, fill)
    MOUTHS[creature.mouth](pen, body.face + (0.55 if creature.eyes == "one" else 0.4))
    EYES[creature.eyes](pen, body, fill)
    return canvas.reduce(_OVERSAMPLING)


def _pen(canvas: Image.Image, body: Body, side: int, rng: random.Random) -> Pen:
    """A pen that places a creature, with its ornament, legs and a tail towards `side`, inside the canvas."""
    pixels = SIZE * _OVERSAMPLING
    scale = pixels * rng.uniform(0.215, 0.258)
    beside, behind = body.hip + 0.5, body.hip + 1.0  # reach on the side without and with the tail
    above, below = 0.8 - body.top, body.bottom + 0.72
    x = _between(beside * scale, pixels - behind * scale, rng)
    y = _between(above * scale, pixels - below * scale, rng)
    centre = (x if side == 1 else pixels - x, y)
    return Pen(ImageDraw.Draw(canvas), scale, centre, math.radians(rng.uniform(-9, 9)))


def _between(low: float, high: float, rng: random.Random) -> float:
    """A place between two bounds; their middle when they have crossed."""
    return rng.uniform(low, high) if low < high else (low + high) / 2


def _shade(colour: Colour, rng: random.Random) -> Colour:
    """The colour a little lighter or darker."""
    share = rng.uniform(-0.14, 0.14)
    return blend(colour, (255, 255, 255) if share > 0 else (0, 0, 0), abs(share))


def _paint_body(canvas: Image.Image, pen: Pen, creature: Creature, fill: Colour) -> None:
    """The body with its skin pattern, which keeps inside the outline."""
    body = BODIES[creature.shape]
    inside = Image.new("L", canvas.size)
    pen.on(inside).fill(body.outline, 255)
    marks = Image.new("L", canvas.size)
    SKINS[creature.skin](pen.on(marks), 255)
    pen.fill(body.outline, fill)
    canvas.paste(blend(fill, INK, 0.5), mask=Image.composite(marks, Image.new("L", canvas.size), inside))
    pen.outline(body.outline)


def _pastel(rng: random.Random) -> Colour:
    """A light, weak colour that leaves the creature's own to stand out."""
    red, green, blue = (rng.randint(196, 250) for _ in range(3))
    return red, green, blue


def _background(rng: random.Random) -> Image.Image:
    """A soft gradient between pastel colours with a few blurred blobs, at the oversampled size."""
    small = Image.new("RGB", (2, 2))
    for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
        small.putpixel(corner, _pastel(rng))
    field = small.resize((56, 56), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(field)
    for _ in range(rng.randint(2, 5)):
        x, y, radius = rng.uniform(0, 56), rng.uniform(0, 56), rng.uniform(4, 12)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_pastel(rng))
    side = SIZE * _OVERSAMPLING
    return field.filter(ImageFilter.GaussianBlur(2)).resize((side, side), Image.Resampling.BILINEAR)
