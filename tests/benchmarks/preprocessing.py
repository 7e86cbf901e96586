"""Pictures' bytes to what a model reads: this product against transformers' image processor.

    OMP_NUM_THREADS=1 python tests/benchmarks/preprocessing.py PHOTOS [ROUNDS]

PHOTOS is a folder; 32 of its JPEGs are taken as they are and scaled to 12 megapixels, once smooth and once
with a sensor's grain, which makes files as large as a camera's. The processor is that of
openai/clip-vit-base-patch32. The two prepare each picture in turn, ROUNDS times (5 when left out). Printed
are the medians of the file's size, of milliseconds of processor time, which other work on the machine hardly
lengthens, and of the ratio. Reading a JPEG's bits takes both the same time: the more, the smaller the ratio.
By the clock the ratio is larger, as this product prepares pictures in a thread for each core.
"""

import io
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from timeit import timeit

from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fieldmarks.classification import images
from fieldmarks.classification.pipeline import ahead
from fieldmarks.classification.preprocess import recipe_of
from fieldmarks.classification.threads import cores

PICTURES = 32
CAMERA = (4000, 3000)
PROCESSOR = CLIPImageProcessorPil()
RECIPE = recipe_of(PROCESSOR)


def ours(data: bytes) -> None:
    """Decode and prepare as the classifier does."""
    assert RECIPE
    RECIPE.pixels(images.decode(data, min_side=RECIPE.min_side))


def theirs(data: bytes) -> None:
    """Decode and prepare as transformers' pipelines do."""
    image: Image.Image = Image.open(io.BytesIO(data))
    PROCESSOR(images=[image], return_tensors="pt")


def as_by_a_camera(data: bytes, *, grain: float) -> bytes:
    """Return the photo as a JPEG of 12 megapixels with noise of `grain` levels, upright or lying."""
    with Image.open(io.BytesIO(data)) as photo:
        size = CAMERA if photo.width >= photo.height else CAMERA[::-1]
        large = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    noise = Image.effect_noise(size, 64).convert("RGB")
    file = io.BytesIO()
    Image.blend(large, noise, grain / 64).save(file, "JPEG", quality=92)
    return file.getvalue()


def milliseconds(prepare: Callable[[bytes], None], data: bytes) -> float:
    """Return the processor time of one picture."""
    began = time.process_time()
    prepare(data)
    return (time.process_time() - began) * 1e3


def pairs(pictures: list[bytes], rounds: int) -> list[tuple[float, float]]:
    """Return our and their milliseconds for each picture in each round."""
    return [
        (milliseconds(ours, data), milliseconds(theirs, data)) for _ in range(rounds + 1) for data in pictures
    ][len(pictures) :]  # the first round warms up


def by_the_clock(pictures: list[bytes], rounds: int) -> list[tuple[float, float]]:
    """Return our and their seconds a picture of each round: ours in threads, theirs one after the other."""
    window = 2 * len(pictures)
    ways = (
        lambda: deque(ahead(ours, pictures, workers=cores(), most=window), 0),
        lambda: deque(map(theirs, pictures), 0),
    )
    taken = [[timeit(way, number=1) / len(pictures) for way in ways] for _ in range(rounds + 1)]
    return [(ours, theirs) for ours, theirs in taken[1:]]  # the first round warms up


def compare(name: str, pictures: list[bytes], rounds: int) -> None:
    """Print how long the two take for the same pictures."""
    measured = pairs(pictures, rounds)
    mine, other = (statistics.median(times) for times in zip(*measured, strict=True))
    ratio = statistics.median(second / first for first, second in measured)
    size = statistics.median(map(len, pictures)) / 1e6
    clock = statistics.median(second / first for first, second in by_the_clock(pictures, rounds))
    print(
        f"{name:14} {size:4.2f} MB  ours {mine:5.1f} ms  transformers {other:6.1f} ms  ratio {ratio:.1f},"
        f" by the clock {clock:.1f}",
        flush=True,
    )


def main(folder: str, rounds: int) -> None:
    """Print a line for the photos as they are and two for 12 megapixels."""
    paths = [path for path in sorted(Path(folder).rglob("*.*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    photos = [path.read_bytes() for path in paths[:: max(1, len(paths) // PICTURES)][:PICTURES]]
    compare("as they are", photos, rounds)
    compare("12 MP, smooth", list(map(partial(as_by_a_camera, grain=0), photos)), rounds)
    compare("12 MP, grainy", list(map(partial(as_by_a_camera, grain=3), photos)), rounds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
