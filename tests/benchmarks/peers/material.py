"""What is measured on: a model of true size, pictures, classes with descriptors, kept embeddings."""

import json
import random
import shutil
from pathlib import Path

from tests.benchmarks.peers.work import Job, Result

TEMPLATE = "This is a photo of {}."  # the pipeline's own
PHOTO = (500, 375)  # as most of ImageNet's
_WORDS = """
    long short small large dark bright pale red green blue yellow brown white black striped spotted smooth
    curved straight pointed round flat thick thin slender body head tail legs wings beak eyes ears fur
    petals leaves stem roof windows wheels handle lid screen keys strings with and of on a the rough
""".split()  # noqa: SIM905 - a list of them would take fifty lines


def clip(job: Job) -> Result:
    """Write a CLIP of ViT-B/32's size with random weights beside the tokenizer's files."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 49406, "eos_token_id": 49407}
    CLIPModel(CLIPConfig(text_config=ends)).save_pretrained(job["folder"])
    for file in Path(job["tokenizer"]).iterdir():
        if file.name != "config.json" and file.suffix in (".json", ".txt"):
            shutil.copyfile(file, Path(job["folder"]) / file.name)
    return {}


def photos(job: Job) -> Result:
    """Draw smooth shapes under a little noise, of a photo's size as JPEG: their paths."""
    import numpy as np
    from PIL import Image

    paths = []
    size = tuple(job.get("size", PHOTO))
    for number in range(job["count"]):
        generator = np.random.default_rng(number)
        small = Image.fromarray(generator.integers(0, 256, (9, 12, 3), np.uint8))
        noise = generator.integers(-12, 13, (size[1], size[0], 3))
        pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC)) + noise
        paths.append(str(Path(job["folder"]) / f"{number:04}.jpg"))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return {"paths": paths}


def vectors(job: Job) -> Result:
    """Write random embeddings of pictures (N, D) and of each class's texts (C, P, D)."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.standard_normal((job["images"], 512), np.float32)
    texts = generator.standard_normal((job["classes"], job["descriptors"], 512), np.float32)
    np.savez(job["path"], images=images, texts=texts)
    return {}


def kept(job: Job) -> Result:
    """Write a folder of image embeddings and a classifier of many classes, with six texts each."""
    import numpy as np

    from fieldmarks.classification.head import Head
    from fieldmarks.classification.texts import Texts

    generator = np.random.default_rng(0)
    folder = Path(job["folder"]) / "img_emb"
    folder.mkdir()
    for part in range(job["images"] // 10_000):
        np.save(folder / f"img_emb_{part}.npy", generator.standard_normal((10_000, 512), np.float32))
    names = tuple(f"class {number}" for number in range(job["classes"]))
    owner = tuple(number for number in range(job["classes"]) for _ in range(6))
    marks = tuple(f"mark {row}" for row in range(len(owner)))
    embeddings = generator.standard_normal((len(owner), 512), np.float32)
    head = Head(Texts(names, owner, marks, marks), embeddings, 100.0, metadata={"model": "random"})
    from fieldmarks.classification.classifier_file import ClassifierFile

    ClassifierFile(Path(job["folder"]) / "head.safetensors").write(head)
    return {}


def classes(file: Path | None, count: int) -> dict[str, list[str]]:
    """Return classes with their descriptors: the first of a JSON object's, or six made up for each."""
    if file:
        read: dict[str, list[str]] = json.loads(file.read_text("utf-8"))
        return {name: own for name, own in list(read.items())[:count] if own}
    chance = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(chance.choices(_WORDS, k=chance.randint(least, most)))

    return {f"{words(1, 2)} {number}": [words(2, 7) for _ in range(6)] for number in range(count)}
