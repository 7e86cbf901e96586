"""A short trial: how fast this machine reads, decodes and embeds, and what a larger job would take.

The trial runs the job's own functions on its first images and writes nothing. What it prints is either
measured here or extrapolated, and says which.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from fieldmarks.classification.embedder import Encoder
from fieldmarks.scale.passes import Preprocessing, Source, decoded, encoded, to_row

_SIZES: Final = (10_000, 1_000_000, 1_000_000_000)
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured on some images: seconds of one reader and of one actor, and bytes of an embedding."""

    images: int
    failed: int
    reading: float  # seconds to read, decode and prepare all of them in one process
    encoding: float  # seconds to embed them in one process, its first pass left out
    encoded: int  # images in those passes
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
        yield f"measured      {self.images:,} images, {self.failed:,} of them unreadable"
        yield f"measured      one reader prepares {self.read_rate:,.0f} images/s"
        yield f"measured      one actor embeds {self.encode_rate:,.0f} images/s ({self.device})"
        yield f"measured      an image takes {self.row:,} bytes in the set, without its name"
        readers = self.encode_rate / self.read_rate
        yield f"extrapolated  one actor keeps {readers:,.1f} readers busy"
        for size in _SIZES:
            hours = size / self.encode_rate / _HOUR
            disk = size * self.row / 1e9
            yield f"extrapolated  {size:,} images: {hours:,.2f} actor hours, {disk:,.1f} GB in the set"
        yield "cost          actor hours × the price of a machine hour ÷ actors on the machine"


def trial(sources: Sequence[Source], encoder: Encoder, batch: int, images: int, half: bool) -> Trial:
    """Measure a job on its first images. Raises ModelError, and as the job itself."""
    preprocessing = Preprocessing.of(encoder)
    taken = failed = 0
    passes = []
    began = time.perf_counter()
    every = (
        row
        for number, source in enumerate(sources)
        for row in decoded(to_row(number, source), preprocessing, batch)
    )
    for row in islice(every, -(-images // batch)):
        passes.append(row)
    reading = time.perf_counter() - began
    encoding, count, dim = 0.0, 0, 0
    for number, row in enumerate(passes):
        items, good = len(orjson.loads(row["items"])), orjson.loads(row["shape"])[0]
        began = time.perf_counter()
        dim = max(dim, encoded(row, encoder)["dim"])
        if number or len(passes) == 1:  # the first one loads the model
            encoding += time.perf_counter() - began
            count += good
        taken += items
        failed += items - good
    return Trial(taken, failed, reading, encoding, count, dim * (2 if half else 4), encoder.device)
