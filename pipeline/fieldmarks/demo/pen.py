"""A pen that draws in a creature's own units: the origin at its body's centre, x to the right, y down."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]

INK: Colour = (48, 40, 56)
LINE = 0.06
"""The width of an outline, in creature units."""


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """The mixture of two colours with `share` (0 to 1) of the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0, steps: int = 32) -> list[Point]:
    """The corners of an ellipse around (x, y) turned clockwise by `turn` radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    corners = []
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        u, v = rx * math.cos(angle), ry * math.sin(angle)
        corners.append((x + u * cos - v * sin, y + u * sin + v * cos))
    return corners


def curve(start: Point, bend: Point, end: Point, steps: int = 12) -> list[Point]:
    """Points along the quadratic Bézier curve from start to end."""
    points = []
    for step in range(steps + 1):
        t = step / steps
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
        points.append((a * start[0] + b * bend[0] + c * end[0], a * start[1] + b * bend[1] + c * end[1]))
    return points


def rounded(corners: Sequence[Point], times: int = 3) -> list[Point]:
    """A polygon with its corners cut off `times` over (Chaikin), which rounds them."""
    points = list(corners)
    for _ in range(times):
        sides = list(zip(points, points[1:] + points[:1], strict=True))
        points = [_along(one, other, share) for one, other in sides for share in (0.2, 0.8)]
    return points


def _along(one: Point, other: Point, share: float) -> Point:
    """The point at `share` (0 to 1) of the way from one to the other."""
    return one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share


@dataclass(frozen=True, slots=True)
class Pen:
    """How a creature stands on an image: pixels a unit, centre in pixels, tilt in radians, the side of x."""

    draw: ImageDraw.ImageDraw
    scale: float
    centre: Point
    tilt: float
    side: int = 1  # -1 mirrors x

    def on(self, image: Image.Image) -> "Pen":
        """The same pen on another image."""
        return replace(self, draw=ImageDraw.Draw(image))

    def mirrored(self, side: int) -> "Pen":
        """The same pen with x counted towards `side`: 1 for right, -1 for left."""
        return replace(self, side=side)

    def pixel(self, point: Point) -> Point:
        """A point in creature units as pixels."""
        x, y = point[0] * self.side * self.scale, point[1] * self.scale
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos

    def fill(self, corners: Iterable[Point], fill: Colour | int) -> None:
        """A filled polygon without an outline."""
        self.draw.polygon([self.pixel(corner) for corner in corners], fill=fill)

    def outline(self, corners: Iterable[Point]) -> None:
        """The outline of a polygon."""
        pixels = [self.pixel(corner) for corner in corners]
        width = max(1, round(LINE * self.scale))
        self.draw.line([*pixels, *pixels[:2]], fill=INK, width=width, joint="curve")

    def shape(self, corners: Sequence[Point], fill: Colour) -> None:
        """A filled polygon with an outline."""
        self.fill(corners, fill)
        self.outline(corners)

    def stroke(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A line with round ends, without an outline."""
        pixels = [self.pixel(point) for point in points]
        self.draw.line(pixels, fill=fill, width=max(1, round(width * self.scale)), joint="curve")
        radius = width * self.scale / 2
        for x, y in (pixels[0], pixels[-1]):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def tube(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A line with round ends and an outline."""
        self.stroke(points, width + 2 * LINE, INK)
        self.stroke(points, width, fill)
