"""How far embeddings are from open_clip's own, for its configurations with random weights.

    python tests/benchmarks/open_clip_parity.py [CONFIG ...] [--images FOLDER]

Needs open_clip_torch beside fieldmarks. Prints a line for each configuration: the largest cosine error of
texts, that of images from file to embedding, and the larger of both. Without a folder, images are drawn.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip  # type: ignore[import-not-found]
import torch
from PIL import Image
from safetensors.torch import save_file

from fieldmarks.classification.engines.checkpoint import Checkpoint
from fieldmarks.classification.engines.open_clip import WEIGHTS
from fieldmarks.classification.images import decode
from fieldmarks.hub import OPEN_CLIP

CONFIGS = ("ViT-S-32", "ViT-S-16", "ViT-M-32", "ViT-M-32-alt", "ViT-B-32", "ViT-B-32-quickgelu")
TEXTS = ("a photo of a tench", "olive-green sides with a golden sheen", "x")


def drawn() -> Iterator[bytes]:
    """Yield PNG files of many shapes, odd margins among them."""
    random = np.random.default_rng(0)
    for height, width in ((224, 224), (225, 300), (301, 225), (500, 333), (97, 401), (640, 480)):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(file, "PNG")
        yield file.getvalue()


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest 1 - cosine."""
    return float((1 - torch.cosine_similarity(ours.double(), theirs.double())).abs().max())


@torch.no_grad()
def parity(name: str, files: list[bytes]) -> tuple[float, float]:
    """Return the largest errors of texts and of images."""
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        whole = {
            "model_cfg": open_clip.get_model_config(name),
            "preprocess_cfg": open_clip.get_model_preprocess_cfg(model),
        }
        (Path(folder) / OPEN_CLIP).write_text(json.dumps(whole), "utf-8")
        save_file(
            {key: tensor.contiguous() for key, tensor in model.state_dict().items()}, Path(folder) / WEIGHTS
        )
        checkpoint = Checkpoint(folder)
        network, recipe = checkpoint.network(torch.float32), checkpoint.recipe
    assert recipe is not None
    ids = open_clip.get_tokenizer(name)(list(TEXTS))
    ours = network.get_text_features(input_ids=ids.masked_fill(ids == 0, 49407)).pooler_output
    texts = error(ours, model.encode_text(ids))
    scale, shift = map(torch.from_numpy, recipe.scale_and_shift)
    images = 0.0
    for data in files:
        image = decode(data)
        pixels = (torch.from_numpy(recipe.pixels(image).copy()) * scale + shift).permute(2, 0, 1)[None]
        ours = network.get_image_features(pixel_values=pixels).pooler_output
        images = max(images, error(ours, model.encode_image(preprocess(image)[None])))
    return texts, images


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS, metavar="CONFIG")
    parser.add_argument("--images", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    files = list(drawn())
    if options.images:
        files = [path.read_bytes() for path in sorted(options.images.rglob("*")) if path.is_file()]
    for name in options.configs:
        texts, images = parity(name, files)
        print(f"{name}: texts {texts:.1e}, images {images:.1e}, larger {max(texts, images):.1e}", flush=True)


if __name__ == "__main__":
    main()
