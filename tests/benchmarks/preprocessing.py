"""Pictures' bytes to what a model reads: this product against transformers' image processor, on one core.

    OMP_NUM_THREADS=1 python tests/benchmarks/preprocessing.py PHOTOS [ROUNDS]

PHOTOS is a folder; 32 of its JPEGs are taken as they are and, scaled to 12 megapixels, as a camera would
have made them. The processor is that of openai/clip-vit-base-patch32. Every picture is prepared by the two in
turn, ROUNDS times (5 when left out); printed are medians of milliseconds a picture and of the ratio.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fieldmarks.classification import images
from fieldmarks.classification.preprocess import recipe_of

PICTURES = 32
CAMERA = (4000, 3000)
PROCESSOR = CLIPImageProcessorPil()
RECIPE = recipe_of(PROCESSOR)


def ours(data: bytes) -> None:
    """Decode and prepare as the classifier does."""
    assert RECIPE
    RECIPE.pixels(images.decode(data, least=RECIPE.least))


def theirs(data: bytes) -> None:
    """Decode and prepare as transformers' pipelines do."""
    PROCESSOR(images=[Image.open(io.BytesIO(data))], return_tensors="pt")


def as_by_a_camera(data: bytes) -> bytes:
    """Return the photo as a JPEG of 12 megapixels, upright or lying as it was."""
    with Image.open(io.BytesIO(data)) as photo:
        size = CAMERA if photo.width >= photo.height else CAMERA[::-1]
        large = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    noisy = Image.blend(large, Image.effect_noise(size, 64).convert("RGB"), 0.05)  # a sensor's grain
    file = io.BytesIO()
    noisy.save(file, "JPEG", quality=92)
    return file.getvalue()


def milliseconds(prepare: Callable[[bytes], None], data: bytes) -> float:
    """Return the time of one picture."""
    began = time.perf_counter()
    prepare(data)
    return (time.perf_counter() - began) * 1e3


def main(folder: str, rounds: int) -> None:
    """Print a line for the photos as they are and one for 12 megapixels."""
    paths = [path for path in sorted(Path(folder).rglob("*.*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    photos = [path.read_bytes() for path in paths[:: max(1, len(paths) // PICTURES)][:PICTURES]]
    for name, pictures in (("as they are", photos), ("12 megapixels", list(map(as_by_a_camera, photos)))):
        pairs = [
            (milliseconds(ours, data), milliseconds(theirs, data))
            for _ in range(rounds + 1)
            for data in pictures
        ][len(pictures) :]  # the first round warms up
        mine, other = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(second / first for first, second in pairs)
        size = statistics.median(map(len, pictures)) / 1e6
        print(
            f"{name:13} {len(pictures)} pictures of {size:.2f} MB"
            f"  ours {mine:.1f} ms  transformers {other:.1f} ms  {ratio:.1f}x"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
