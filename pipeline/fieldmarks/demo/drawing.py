"""Draw a creature; the same creature and random state give the same image, byte for byte.

A pen draws in the creature's own units: the origin is the centre of its body, which is about 2 units wide; x
points right, y down. Each attribute has a table of functions that draw its values.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFilter

from fieldmarks.demo.species import Creature

Point = tuple[float, float]
Colour = tuple[int, int, int]

INK: Colour = (48, 40, 56)
LINE = 0.06
"""The width of an outline, in creature units."""


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    """Return a mixture of two colours, with `share` (0 to 1) of the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0, steps: int = 32) -> list[Point]:
    """Return the corners of an ellipse around (x, y), turned clockwise by `turn` radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    corners = []
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        u, v = rx * math.cos(angle), ry * math.sin(angle)
        corners.append((x + u * cos - v * sin, y + u * sin + v * cos))
    return corners


def curve(start: Point, bend: Point, end: Point, steps: int = 12) -> list[Point]:
    """Return points along the quadratic Bézier curve from start to end."""
    points = []
    for step in range(steps + 1):
        t = step / steps
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
        points.append((a * start[0] + b * bend[0] + c * end[0], a * start[1] + b * bend[1] + c * end[1]))
    return points


def rounded(corners: Sequence[Point], times: int = 3) -> list[Point]:
    """Return a polygon rounded by cutting off its corners `times` times (Chaikin)."""
    points = list(corners)
    for _ in range(times):
        sides = list(zip(points, points[1:] + points[:1], strict=True))
        points = [_along(start, end, share) for start, end in sides for share in (0.2, 0.8)]
    return points


def _along(start: Point, end: Point, share: float) -> Point:
    """Return the point at `share` (0 to 1) of the way from start to end."""
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


@dataclass(frozen=True, slots=True)
class Pen:
    """Places a creature on an image: pixels per unit, centre in pixels, tilt in radians, direction of x."""

    draw: ImageDraw.ImageDraw
    scale: float
    centre: Point
    tilt: float
    side: int = 1  # -1 mirrors x

    def on(self, image: Image.Image) -> "Pen":
        """Return the same pen on another image."""
        return replace(self, draw=ImageDraw.Draw(image))

    def mirrored(self, side: int) -> "Pen":
        """Return the same pen with x pointing towards `side`: 1 for right, -1 for left."""
        return replace(self, side=side)

    def pixel(self, point: Point) -> Point:
        """Convert a point from creature units to pixels."""
        x, y = point[0] * self.side * self.scale, point[1] * self.scale
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos

    def fill(self, corners: Iterable[Point], fill: Colour | int) -> None:
        """Draw a filled polygon without an outline."""
        self.draw.polygon([self.pixel(corner) for corner in corners], fill=fill)

    def outline(self, corners: Iterable[Point]) -> None:
        """Draw the outline of a polygon."""
        pixels = [self.pixel(corner) for corner in corners]
        width = max(1, round(LINE * self.scale))
        self.draw.line([*pixels, *pixels[:2]], fill=INK, width=width, joint="curve")

    def shape(self, corners: Sequence[Point], fill: Colour) -> None:
        """Draw a filled polygon with an outline."""
        self.fill(corners, fill)
        self.outline(corners)

    def stroke(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """Draw a line with round ends, without an outline."""
        pixels = [self.pixel(point) for point in points]
        self.draw.line(pixels, fill=fill, width=max(1, round(width * self.scale)), joint="curve")
        radius = width * self.scale / 2
        for x, y in (pixels[0], pixels[-1]):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def tube(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """Draw a line with round ends and an outline."""
        self.stroke(points, width + 2 * LINE, INK)
        self.stroke(points, width, fill)


WHITE: Colour = (255, 255, 255)
IVORY: Colour = (250, 236, 200)
ROSE: Colour = (246, 170, 178)
GOLD: Colour = (250, 186, 50)
MAROON: Colour = (110, 24, 44)


@dataclass(frozen=True, slots=True)
class Body:
    """An outline and where other parts join: y of top, bottom and eyes (`face`), half the hips' width."""

    outline: tuple[Point, ...]
    top: float
    bottom: float
    hip: float
    face: float


def _pear() -> list[Point]:
    """Return an outline that is narrow at the top and broad at the bottom."""
    return [(x * (0.66 + 0.28 * y), y) for x, y in oval(0, 0, 1.0, 0.98)]


def _square(half: float) -> list[Point]:
    return rounded([(-half, -half), (half, -half), (half, half), (-half, half)])


BODIES: Mapping[str, Body] = {
    "round": Body(tuple(oval(0, 0, 0.88, 0.88)), -0.88, 0.88, 0.72, -0.2),
    "tall": Body(tuple(oval(0, 0, 0.58, 1.02)), -1.02, 1.02, 0.45, -0.35),
    "wide": Body(tuple(oval(0, 0.2, 1.18, 0.56)), -0.36, 0.76, 1.0, 0.02),
    "square": Body(tuple(_square(0.82)), -0.8, 0.8, 0.8, -0.2),
    "triangle": Body(tuple(rounded([(0, -1.22), (1.12, 0.9), (-1.12, 0.9)])), -0.9, 0.88, 0.85, 0.06),
    "pear": Body(tuple(_pear()), -0.95, 0.95, 0.78, -0.25),
}


def _spots(pen: Pen, dark: int) -> None:
    for row in range(-3, 4):
        for column in range(-3, 4):
            shift = 0.24 if row % 2 else 0.0
            pen.fill(oval(column * 0.48 + shift, row * 0.42, 0.13, 0.13, steps=16), dark)


def _stripes(pen: Pen, dark: int) -> None:
    for column in range(-3, 4):
        x = column * 0.42
        pen.fill([(x - 0.09, -1.4), (x + 0.09, -1.4), (x + 0.09, 1.4), (x - 0.09, 1.4)], dark)


def _bands(pen: Pen, dark: int) -> None:
    for row in range(-3, 4):
        y = row * 0.42 + 0.1
        pen.fill([(-1.4, y - 0.09), (1.4, y - 0.09), (1.4, y + 0.09), (-1.4, y + 0.09)], dark)


def _checks(pen: Pen, dark: int) -> None:
    size = 0.36
    for row in range(-4, 4):
        for column in range(-4, 4):
            if (row + column) % 2:
                x, y = column * size, row * size
                pen.fill([(x, y), (x + size, y), (x + size, y + size), (x, y + size)], dark)


def _plain(pen: Pen, dark: int) -> None:
    """Draw nothing: the skin keeps its single tone."""


SKINS: Mapping[str, Callable[[Pen, int], None]] = {
    "plain": _plain, "spots": _spots, "stripes": _stripes, "bands": _bands, "checks": _checks,
}  # fmt: skip


def _eyeball(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.shape(oval(x, y, radius, radius), WHITE)
    pupil = radius * 0.52
    pen.fill(oval(x, y + radius * 0.1, pupil, pupil, steps=20), INK)
    glint = radius * 0.2
    pen.fill(oval(x + pupil * 0.3, y - pupil * 0.3, glint, glint, steps=12), WHITE)


def _one_eye(pen: Pen, body: Body, fill: Colour) -> None:
    _eyeball(pen, 0, body.face, 0.36)


def _two_eyes(pen: Pen, body: Body, fill: Colour) -> None:
    for x in (-0.22, 0.22):
        _eyeball(pen, x, body.face, 0.17)


def _three_eyes(pen: Pen, body: Body, fill: Colour) -> None:
    for x in (-0.37, 0.0, 0.37):
        _eyeball(pen, x, body.face, 0.18)


def _stalked_eyes(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        half = pen.mirrored(side)
        half.tube(curve((0.16, body.face + 0.05), (0.22, body.top + 0.05), (0.46, body.top - 0.2)), 0.1, fill)
        _eyeball(half, 0.47, body.top - 0.28, 0.22)


EYES: Mapping[str, Callable[[Pen, Body, Colour], None]] = {
    "one": _one_eye, "two": _two_eyes, "stalks": _stalked_eyes, "three": _three_eyes,
}  # fmt: skip


def _long_legs(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        half = pen.mirrored(side)
        half.tube([(0.28, body.bottom - 0.25), (0.32, body.bottom + 0.58)], 0.14, fill)
        half.shape(oval(0.42, body.bottom + 0.6, 0.22, 0.11), fill)


def _short_legs(pen: Pen, body: Body, fill: Colour) -> None:
    for share in (-0.9, -0.32, 0.32, 0.9):
        x = share * body.hip
        y = body.bottom + 0.22
        pen.tube([(x, body.bottom - 0.4), (x, y)], 0.25, fill)


def _thin_legs(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        half = pen.mirrored(side)
        for reach, foot in ((0.2, 0.42), (0.42, 0.3), (0.62, 0.12)):
            start = (body.hip * 0.55, body.bottom - 0.25)
            knee = (body.hip * 0.55 + reach, body.bottom - 0.3 + foot * 0.4)
            half.stroke([start, knee, (knee[0] + 0.12, body.bottom + foot)], 0.09, INK)


def _flippers(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        half = pen.mirrored(side)
        half.shape(oval(body.hip * 0.75 + 0.12, body.bottom + 0.04, 0.5, 0.19, turn=0.35), fill)


LEGS: Mapping[str, Callable[[Pen, Body, Colour], None]] = {
    "long": _long_legs, "short": _short_legs, "six": _thin_legs, "flippers": _flippers,
}  # fmt: skip


def _curled_tail(pen: Pen, x: float, y: float, fill: Colour) -> None:
    spiral = []
    for step in range(30):
        angle = 0.5 * math.pi - step * 0.28
        radius = 0.33 * (1 - step / 38)
        spiral.append((x + 0.55 + radius * math.cos(angle), y - 0.2 + radius * math.sin(angle)))
    pen.tube([(x - 0.3, y + 0.1), *spiral], 0.1, fill)


def _forked_tail(pen: Pen, x: float, y: float, fill: Colour) -> None:
    fork = (x + 0.4, y - 0.05)
    prongs = [[fork, (x + 0.85, y - 0.42)], [fork, (x + 0.9, y + 0.12)]]
    root = curve((x - 0.3, y + 0.1), (x + 0.1, y + 0.2), fork)
    for line in (root, *prongs):
        pen.stroke(line, 0.13 + 0.12, INK)
    for line in (root, *prongs):
        pen.stroke(line, 0.13, fill)


_PUFFS = ((0.2, 0.0, 0.24), (0.42, -0.28, 0.27), (0.62, 0.02, 0.27), (0.75, -0.3, 0.22), (0.48, -0.12, 0.3))


def _bushy_tail(pen: Pen, x: float, y: float, fill: Colour) -> None:
    for dx, dy, radius in _PUFFS:
        pen.fill(oval(x + dx, y + dy, radius + 0.05, radius + 0.05), INK)
    for dx, dy, radius in _PUFFS:
        pen.fill(oval(x + dx, y + dy, radius, radius), blend(fill, WHITE, 0.4))


def _arrow_tail(pen: Pen, x: float, y: float, fill: Colour) -> None:
    pen.tube(curve((x - 0.3, y + 0.1), (x + 0.45, y + 0.25), (x + 0.55, y - 0.2)), 0.09, fill)
    pen.shape([(x + 0.57, y - 0.68), (x + 0.88, y - 0.16), (x + 0.56, y - 0.26), (x + 0.24, y - 0.2)], fill)


TAILS: Mapping[str, Callable[[Pen, float, float, Colour], None]] = {
    "curled": _curled_tail, "forked": _forked_tail, "bushy": _bushy_tail, "arrow": _arrow_tail,
}  # fmt: skip


def _horns(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        inner = curve((0.12, body.top + 0.1), (0.66, body.top - 0.1), (0.82, body.top - 0.66))
        outer = curve((0.82, body.top - 0.66), (0.98, body.top), (0.46, body.top + 0.36))
        pen.mirrored(side).shape([*inner, *outer], IVORY)


def _single_horn(pen: Pen, body: Body, fill: Colour) -> None:
    pen.shape([(-0.17, body.top + 0.15), (0, body.top - 0.82), (0.17, body.top + 0.15)], IVORY)
    for rise in (0.05, 0.25):
        width = 0.13 - rise * 0.18
        pen.stroke([(-width, body.top - rise), (width, body.top - rise - 0.07)], 0.04, INK)


def _antennae(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        half = pen.mirrored(side)
        half.stroke(curve((0.08, body.top + 0.1), (0.1, body.top - 0.6), (0.52, body.top - 0.72)), 0.07, INK)
        half.shape(oval(0.54, body.top - 0.72, 0.12, 0.12, steps=20), fill)


def _ears(pen: Pen, body: Body, fill: Colour) -> None:
    for side in (-1, 1):
        half = pen.mirrored(side)
        half.shape(oval(0.54, body.top - 0.02, 0.38, 0.38), fill)
        half.fill(oval(0.54, body.top - 0.02, 0.22, 0.22), ROSE)


def _crest(pen: Pen, body: Body, fill: Colour) -> None:
    for turn in (-0.85, 0.85, -0.42, 0.42, 0.0):
        x, y = 0.42 * math.sin(turn), body.top + 0.05 - 0.42 * math.cos(turn)
        pen.shape(oval(x, y, 0.13, 0.42, turn=turn, steps=24), blend(fill, WHITE, 0.35))


ORNAMENTS: Mapping[str, Callable[[Pen, Body, Colour], None]] = {
    "horns": _horns, "unicorn": _single_horn, "antennae": _antennae, "ears": _ears, "crest": _crest,
}  # fmt: skip


def _grin(pen: Pen, y: float) -> None:
    lips = [(-0.38, y - 0.12), *curve((-0.38, y - 0.12), (0, y + 0.5), (0.38, y - 0.12))]
    pen.shape(lips, WHITE)
    for x in (-0.19, 0.0, 0.19):
        pen.stroke([(x, y - 0.12), (x, y + 0.17 - 0.9 * x * x)], 0.035, INK)


def _beak(pen: Pen, y: float) -> None:
    pen.shape([(-0.29, y - 0.13), (0.29, y - 0.13), (0, y + 0.36)], GOLD)
    pen.stroke([(-0.15, y + 0.03), (0.15, y + 0.03)], 0.04, INK)


def _small_mouth(pen: Pen, y: float) -> None:
    pen.shape(oval(0, y + 0.02, 0.15, 0.16, steps=20), MAROON)


MOUTHS: Mapping[str, Callable[[Pen, float], None]] = {"grin": _grin, "beak": _beak, "small": _small_mouth}


SIZE = 224
"""Pixels along each side of an image."""

_OVERSAMPLING = 2  # drawn larger, then reduced: Pillow's own lines have hard edges

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
    """Return an RGB image, SIZE x SIZE; `rng` decides place, size, tilt, shade and background."""
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
    """Return a pen that fits a creature, with ornament, legs and a tail towards `side`, into the canvas."""
    pixels = SIZE * _OVERSAMPLING
    scale = pixels * rng.uniform(0.215, 0.258)
    beside, behind = body.hip + 0.5, body.hip + 1.0  # reach on the side without and with the tail
    above, below = 0.8 - body.top, body.bottom + 0.72
    x = _between(beside * scale, pixels - behind * scale, rng)
    y = _between(above * scale, pixels - below * scale, rng)
    centre = (x if side == 1 else pixels - x, y)
    return Pen(ImageDraw.Draw(canvas), scale, centre, math.radians(rng.uniform(-9, 9)))


def _between(low: float, high: float, rng: random.Random) -> float:
    """Return a place between two bounds, or their middle if they have crossed."""
    return rng.uniform(low, high) if low < high else (low + high) / 2


def _shade(colour: Colour, rng: random.Random) -> Colour:
    """Return the colour a little lighter or darker."""
    share = rng.uniform(-0.14, 0.14)
    return blend(colour, (255, 255, 255) if share > 0 else (0, 0, 0), abs(share))


def _paint_body(canvas: Image.Image, pen: Pen, creature: Creature, fill: Colour) -> None:
    """Draw the body with its skin pattern, which stays inside the outline."""
    body = BODIES[creature.shape]
    inside = Image.new("L", canvas.size)
    pen.on(inside).fill(body.outline, 255)
    marks = Image.new("L", canvas.size)
    SKINS[creature.skin](pen.on(marks), 255)
    pen.fill(body.outline, fill)
    canvas.paste(blend(fill, INK, 0.5), mask=Image.composite(marks, Image.new("L", canvas.size), inside))
    pen.outline(body.outline)


def _pastel(rng: random.Random) -> Colour:
    """Return a light, weak colour against which the creature's own stands out."""
    red, green, blue = (rng.randint(196, 250) for _ in range(3))
    return red, green, blue


def _background(rng: random.Random) -> Image.Image:
    """Return a soft gradient of pastel colours with a few blurred blobs, at the oversampled size."""
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
