"""How far embeddings and labels are from transformers' own at float32, and half precision from float32.

    python -m tests.classification.agreement [CLIP] [PHOTOS]

CLIP is a model's folder (the demo's when left out, as `fieldmarks demo --out` makes it); PHOTOS a folder of
JPEGs, to which drawn ones are added up to 500. Sixty more files are of all modes, depths, orientations and
transparencies. Labels are of 100 classes.
"""

import io
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tests.classification.drawn_files import creature, saved, sixty_files
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fieldmarks.choices import DType, Engine
from fieldmarks.classification.embedder import Embedded, Embedder, Encoder
from fieldmarks.classification.sources import Blob
from fieldmarks.demo.species import demo_species

DEMO: Final = Path(__file__).parents[2] / "pipeline/fieldmarks/demo/models/clip"
JPEGS: Final = 500
CLASSES: Final = 100

Floats = NDArray[np.floating[Any]]


def photos(folder: Path | None, count: int = JPEGS) -> list[bytes]:
    """Return that many JPEGs: those of a folder, then drawn ones of several sizes and qualities."""
    suffixes = (".jpg", ".jpeg")
    paths = (
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)[:count]
        if folder
        else []
    )
    files = [path.read_bytes() for path in paths]
    for number in range(count - len(files)):
        image = creature(number, 200 + 13 * (number % 97), 230 + 17 * (number % 61))
        files.append(saved(image, "JPEG", quality=70 + number % 28, progressive=number % 5 == 0))
    return files


def class_names(folder: Path | None) -> list[str]:
    """Return a hundred names: the demo's species, then words of the photos' names, then numbers."""
    stems = [path.stem.partition("_")[2].replace("_", " ") for path in sorted((folder or DEMO).rglob("*.*"))]
    numbered = [f"creature {number}" for number in range(CLASSES)]
    return list(dict.fromkeys([*demo_species(), *filter(None, stems), *numbered]))[:CLASSES]


def theirs(clip: Path, files: Iterable[tuple[bytes, Image.Image | None]]) -> Floats:
    """Return transformers' embeddings (N, D) of files, or of the image that stands for one."""
    model: Any = CLIPModel.from_pretrained(clip)
    processor = CLIPImageProcessorPil.from_pretrained(clip)
    rows = []
    for data, shown in files:
        with Image.open(io.BytesIO(data)) as file, torch.inference_mode():
            image = shown or ImageOps.exif_transpose(file)
            inputs = processor(images=[image], return_tensors="pt")
            rows.append(model.get_image_features(**inputs).pooler_output[0].double().numpy())
    return np.stack(rows)


def ours(clip: Path, files: Sequence[bytes], *, dtype: DType = "float32", engine: Engine = "auto") -> Floats:
    """Return this product's embeddings (N, D)."""
    embedder = Embedder(Encoder(clip, dtype=dtype, engine=engine))
    results = embedder.images([Blob(str(number), data) for number, data in enumerate(files)])
    rows = []
    for result in results:
        assert isinstance(result, Embedded), result
        rows.append(result.vector.astype(np.float64))
    return np.stack(rows)


def difference(weights: Floats, some: Floats, other: Floats) -> tuple[int, float]:
    """Return how many labels differ, and the largest cosine error, of embeddings (N, D); weights (C, D)."""
    some, other = _unit(some), _unit(other)
    labels = (some @ weights.T).argmax(axis=1), (other @ weights.T).argmax(axis=1)
    return int((labels[0] != labels[1]).sum()), float((1 - (some * other).sum(axis=1)).max())


def class_weights(clip: Path, names: list[str]) -> Floats:
    """Return unit embeddings (C, D) of the classes."""
    return _unit(Embedder(Encoder(clip, dtype="float32")).texts([f"a photo of a {name}" for name in names]))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def main(clip: Path, folder: Path | None) -> None:
    """Print the figures."""
    warnings.simplefilter("ignore")
    weights = class_weights(clip, class_names(folder))
    kinds, jpegs = sixty_files(), photos(folder)
    full = ours(clip, jpegs)
    mine = np.concatenate([full, ours(clip, [data for _, data, _ in kinds])])
    reference = theirs(clip, [(data, None) for data in jpegs] + [(data, shown) for _, data, shown in kinds])
    changed, error = difference(weights, mine, reference)
    print(
        f"{len(jpegs)} JPEGs and {len(kinds)} files of all kinds: {changed} labels changed,"
        f" largest cosine error {error:.1e} at float32"
    )
    changed, error = difference(weights, full, ours(clip, jpegs, dtype="bfloat16"))
    print(
        f"half precision against float32: {changed} of {len(jpegs)} labels changed ({len(weights)} classes),"
        f" largest cosine error {error:.1e}"
    )


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    main(arguments[0] if arguments else DEMO, arguments[1] if len(arguments) > 1 else None)
