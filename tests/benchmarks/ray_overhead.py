"""What Ray costs on one machine: two actors against one process, after both have started.

    python tests/benchmarks/ray_overhead.py CLIP [IMAGES] [PAIRS]

CLIP is a model's folder; random weights of true size serve as well. Archives of 50 drawn JPEGs each are
embedded in turns by one process of two threads and by Ray with two actors of one thread each, in float32.
Timed is what passes between the first shard of a set and its last, so that starting Python, Ray and the model
is left out.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tests.scale.archives import write_tar

from fieldmarks.classification.embedding_set import EmbeddingSet

TAR = 50  # images of an archive
EXACT = ("--dtype", "float32", "--engine", "torch", "--no-cache", "--batch", "25")


def jpeg(number: int) -> bytes:
    """Return an image of 400 × 300 that no other number has."""
    random = np.random.default_rng(number)
    small = Image.fromarray(random.integers(0, 256, (15, 20, 3), np.uint8))
    content = io.BytesIO()
    small.resize((400, 300), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


def rate(folder: Path, name: str, clip: str, threads: int, *more: str) -> float:
    """Embed the archives, and return images per second between the first shard and the last."""
    out = folder / name
    command = [sys.executable, "-m", "fieldmarks", "embed", str(folder / "tars"), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([*command, "--clip", clip, *EXACT, *more], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    times = sorted(path.stat().st_mtime for path in (out / "metadata").iterdir())
    return TAR * (len(times) - 1) / (times[-1] - times[0])


def vectors(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a set's vectors by the names of their images."""
    embeddings = EmbeddingSet(path)
    return embeddings.vectors[np.argsort(embeddings.images)]


def main() -> None:
    clip = str(Path(sys.argv[1]).resolve())
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tars").mkdir()
        for start in range(0, images, TAR):
            files = ((f"{number:06d}.jpg", jpeg(number)) for number in range(start, start + TAR))
            write_tar(folder / "tars" / f"t-{start:06d}.tar", files)
        for pair in range(pairs):
            one = rate(folder, f"one-{pair}", clip, 2)
            two = rate(folder, f"two-{pair}", clip, 1, "--on", "ray", "--actors", "2")
            apart = np.abs(vectors(folder / f"one-{pair}") - vectors(folder / f"two-{pair}")).max()
            ratios.append(one / two)
            print(
                f"one process {one:.1f} images/s, Ray {two:.1f}: {one / two - 1:+.0%} time; vectors differ by"
                f" {apart:.1e} at most",
                flush=True,
            )
    print(f"{images:,} images, {pairs} pairs: median {statistics.median(ratios) - 1:+.0%} time on Ray")


if __name__ == "__main__":
    main()
