"""A short trial: how fast this machine reads, decodes and embeds, and what a larger job would take.

The trial runs the job's own functions on its first images and writes nothing. What it prints is either
measured here or extrapolated, and says which.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from fieldmarks.classification.embedder import Encoder
from fieldmarks.errors import ImageError
from fieldmarks.scale.passes import Preprocessing, Row, Source, decoded, encoded, to_row
from fieldmarks.text import counted

_SIZES: Final = (10_000, 1_000_000, 1_000_000_000)
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured on some images: seconds of one reader and of one actor, and bytes of an embedding."""

    images: int
    failed: int
    reading: float  # seconds to read, decode and prepare all of them in one process
    encoding: float  # seconds to embed them in one process, once the model is loaded
    encoded: int  # images in these passes
    row: int  # bytes that an image takes in the set
    device: str

    @property
    def read_rate(self) -> float:
        """Images a second that one reader prepares."""
        return self.images / max(self.reading, 1e-9)

    @property
    def encode_rate(self) -> float:
        """Images a second that one actor embeds."""
        return self.encoded / max(self.encoding, 1e-9)

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield f"measured      {counted(self.images, 'image')}, {self.failed:,} of them unreadable"
        yield f"measured      one reader prepares {self.read_rate:,.0f} images/s"
        yield f"measured      one actor embeds {self.encode_rate:,.0f} images/s ({self.device})"
        yield f"measured      an image takes {self.row:,} bytes in the set, without its name"
        readers = self.encode_rate / self.read_rate
        yield f"extrapolated  one actor keeps {readers:,.1f} readers busy"
        for size in _SIZES:
            hours = size / self.encode_rate / _HOUR
            disk = _amount(size * self.row / 1e9)
            yield f"extrapolated  {size:,} images: {_amount(hours)} actor hours, {disk} GB in the set"
        yield "cost          actor hours × the price of a machine hour ÷ actors on the machine"


def _amount(number: float) -> str:
    return f"{number:,.1f}" if number >= 1 else f"{number:.2g}"


def trial(sources: Sequence[Source], encoder: Encoder, batch: int, images: int, half: bool) -> Trial:
    """Measure a job on its first images, a pass in memory at a time. Raises ImageError, ModelError."""
    preprocessing = Preprocessing.of(encoder)
    taken = count = dim = 0
    reading = encoding = 0.0
    problem = "there are no images"
    passes = _first(sources, preprocessing, batch, images)
    while True:
        began = time.perf_counter()
        row = next(passes, None)
        reading += time.perf_counter() - began
        if row is None:
            break
        items, good = orjson.loads(row["items"]), orjson.loads(row["shape"])[0]
        taken += len(items)
        problem = row["problem"] or next((f"{item[0]}: {item[-1]}" for item in items), problem)
        if not good:
            continue
        if not count:
            encoded(row, encoder)  # which loads the model
        began = time.perf_counter()
        dim = encoded(row, encoder)["dim"]
        encoding += time.perf_counter() - began
        count += good
    if not count:
        raise ImageError(f"nothing could be measured, as no image could be read: {problem}")
    return Trial(taken, taken - count, reading, encoding, count, dim * (2 if half else 4), encoder.device)


def _first(sources: Sequence[Source], preprocessing: Preprocessing, batch: int, images: int) -> Iterator[Row]:
    """Yield the passes of a job's first images; the last one is as short as it needs to be."""
    for number, source in enumerate(sources):
        for row in decoded(to_row(number, source), preprocessing, batch, images):
            yield row
            images -= len(orjson.loads(row["items"]))
        if images < 1:
            return
