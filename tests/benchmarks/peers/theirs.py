"""What a user would run instead of this product, written from its description; each runs in a worker.

- transformers' pipeline for zero-shot image classification, which encodes every label for every picture;
- the article's loop: batches of 50 pictures through the processor and CLIPModel at float32;
- a DataLoader with a worker a core, the processor, and half precision;
- the paper's: each class's texts padded to 77 tokens, and a loop over classes that averages cosines.
"""

import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import numpy as np
from tests.benchmarks.peers import machine
from tests.benchmarks.peers.work import CORES, Job, Result, keep, seconds

BATCH = 50  # the article's
TOKENS = 77  # CLIP's full length


def pipeline(job: Job) -> Result:
    """Files to labels at each number of labels, over a few pictures as each takes long: seconds a picture."""
    from transformers import pipeline

    labels, paths = job["labels"], job["pictures"]
    classify: Any = pipeline("zero-shot-image-classification", model=job["clip"])
    answers: dict[str, list[str]] = {}
    taken: dict[str, float] = {}
    template = job["template"]
    classify(paths[0], candidate_labels=labels[:10], hypothesis_template=template)  # the first is slower
    for count, pictures in job["counts"].items():
        asked = {"candidate_labels": labels[: int(count)], "hypothesis_template": template}
        began = time.perf_counter()
        ranked = [classify(path, **asked) for path in paths[:pictures]]
        taken[count] = (time.perf_counter() - began) / pictures
        answers[count] = [best["label"] for best, *_ in ranked]
    return {"a picture": taken, "answers": answers}


def article(job: Job) -> Result:
    """Files to embeddings and classes: seconds of the whole loop, with the models loaded before."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(job["clip"], dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(job["clip"])  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(job["clip"])
    with torch.inference_mode():
        rows = []
        for own in job["classes"]:
            inputs = tokenizer(own, padding=True, truncation=True, return_tensors="pt")
            rows.append(_tensor(model.get_text_features(**inputs)).mean(dim=0))
        weights = torch.nn.functional.normalize(torch.stack(rows), dim=-1)  # (C, D)
        embeddings, answers = [], []
        began = time.perf_counter()
        for at in range(0, len(job["pictures"]), BATCH):
            images = [Image.open(path).convert("RGB") for path in job["pictures"][at : at + BATCH]]
            pixels = processor(images=images, return_tensors="pt")
            features = _tensor(model.get_image_features(**pixels))
            unit = features / features.norm(dim=-1, keepdim=True)
            answers += (unit @ weights.T).argmax(dim=-1).tolist()
            embeddings.append(unit)
        taken = time.perf_counter() - began
    return {"seconds": taken, "answers": answers, "embeddings": keep(torch.cat(embeddings).numpy())}


def loader(job: Job) -> Result:
    """Files to embeddings by a DataLoader of as many workers as cores, in half precision: images a second."""
    import torch
    from tests.benchmarks.peers.gpu import BATCH, rate
    from torch.utils.data import DataLoader
    from transformers import AutoImageProcessor, CLIPModel

    cuda = torch.cuda.is_available()
    half = cuda or machine.has_bfloat16()
    dtype = torch.bfloat16 if half else torch.float32
    model: Any = CLIPModel.from_pretrained(job["clip"], dtype=dtype)
    model.to("cuda" if cuda else "cpu").eval()
    processor = AutoImageProcessor.from_pretrained(job["clip"])  # type: ignore[no-untyped-call]
    batch = 8 if job.get("rehearsal") else job.get("batch", BATCH)
    repeated = list(islice(cycle(job["paths"]), 10**6))
    files: Any = Files(repeated, processor)
    batches: Any = DataLoader(files, batch_size=batch, num_workers=CORES, pin_memory=cuda)

    def embeddings() -> Iterator[Any]:
        with torch.inference_mode():
            for pixels in batches:
                inputs = pixels.to(model.device, dtype, non_blocking=True)
                yield from _tensor(model.get_image_features(pixel_values=inputs)).float().cpu().numpy()

    return {"rate": rate(embeddings(), job["seconds"])}


class Files:
    """A data set as torch's DataLoader reads it: pixels of one file after another."""

    def __init__(self, paths: list[str], processor: Any) -> None:
        self.paths = paths
        self.processor = processor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[number]) as image:
            return self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]


def paper_texts(job: Job) -> Result:
    """Texts to embeddings, a forward pass a class, padded to the full length: seconds."""
    import torch
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(job["clip"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(job["clip"])

    def encode(own: list[str]) -> Any:
        inputs = tokenizer(own, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        return torch.nn.functional.normalize(_tensor(model.get_text_features(**inputs)), dim=-1)

    with torch.inference_mode():
        encode(job["classes"][0])
        began = time.perf_counter()
        rows = [encode(own) for own in job["classes"]]
        taken = time.perf_counter() - began
    return {"seconds": taken, "embeddings": keep(torch.cat(rows).numpy())}


def paper_scores(job: Job) -> Result:
    """Embeddings to classes by the mean of the cosines with each class's descriptors: seconds."""
    import torch

    with np.load(job["vectors"], allow_pickle=False) as kept:
        images, texts = (torch.from_numpy(kept[key]) for key in ("images", "texts"))  # (N, D), (C, P, D)
    images, texts = (torch.nn.functional.normalize(rows, dim=-1) for rows in (images, texts))
    encodings = {f"class {number}": own for number, own in enumerate(texts)}

    def loop() -> Any:
        cumulative = [(images @ own.T).mean(dim=1) for own in encodings.values()]
        return torch.stack(cumulative, dim=1).argmax(dim=1)

    return {"seconds": seconds(loop), "answers": loop().tolist()}


def _tensor(features: Any) -> Any:
    return getattr(features, "pooler_output", features)  # transformers 5 gives an output object
