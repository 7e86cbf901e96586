"""The GPU mode: what a bare machine with a GPU, without network, can measure in eight minutes, line by line.

It draws its own JPEGs and makes its own models of random weights, B/32 and L/14 and a language model of a
billion weights. Each step runs in a process of its own for a fixed time after a warm-up, so that the whole
ends in time; a step that fails is reported and the others go on. `rehearsal` does all steps with tiny models,
on whatever device is there, to see that they work.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.benchmarks.peers.rows import Row
from tests.benchmarks.peers.work import CORES, Job, Result, run

PHOTOS: Final = 256  # drawn, and read again and again: the caches of the system are warm on both sides
PHOTO: Final = (534, 400)
BATCH: Final = 256
SIZES: Final[dict[str, dict[str, Any]]] = {
    "B/32": {"vision": {}, "text": {}, "projection": 512},
    "L/14": {
        "vision": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        },
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "projection": 768,
    },
}
TINY: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
}
LM: Final[dict[str, Any]] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
TINY_LM: Final[dict[str, Any]] = TINY | {"num_key_value_heads": 2}
ANSWERS: Final = 256
NEW: Final = 96  # tokens of an answer


def measure(folder: Path, *, seconds: float, rehearsal: bool) -> Iterator[tuple[Row | None, str]]:
    """Yield each row as it is measured, or none and why not."""
    job: dict[str, Any] = {"folder": str(folder), "seconds": seconds, "rehearsal": rehearsal}
    made = run("gpu.material", job)
    job |= {"paths": made["paths"]}
    one = run("gpu.one_thread", job)["rate"]
    limit = one * CORES
    yield Row("decoding and scaling, one thread", one, unit=" images/s"), ""
    for name in SIZES:
        clip = job | {"clip": made["clips"][name], "name": name}
        yield from _rows(name, clip, limit)
    yield from _step(
        "--local, tokens/s of plain generate",
        lambda: run("gpu.language", job | {"lm": made["lm"]}),
        lambda found: Row(
            "--local, tokens/s of plain generate",
            100 * found["ours"] / found["theirs"],
            90,
            "%",
            sides=(found["ours"], found["theirs"]),
            per="tokens/s",
        ),
    )


def _rows(name: str, job: dict[str, Any], limit: float) -> Iterator[tuple[Row | None, str]]:
    tower: dict[str, float] = {}

    def towers(found: Result) -> Row:
        tower.update(found)
        best = max(found["eager"], found["compiled"])
        return Row(
            f"{name}: tower with copies, of resident",
            100 * found["copies"] / best,
            70 if name == "B/32" else 85,
            "%",
            sides=(found["copies"], best),
            per="images/s",
            beside={key: f"{found[key]:.0f} images/s" for key in ("eager", "compiled", "ours resident")},
        )

    def files(found: Result) -> Row:
        ours, theirs = found["ours"], found["theirs"]
        beside = {"of cores x one thread": f"{100 * ours / limit:.0f}%"}
        if tower:
            beside["of the tower with resident pixels"] = f"{100 * ours / tower['ours resident']:.0f}%"
        return Row(
            f"{name}: files, against a DataLoader",
            ours / theirs,
            1.15 if name == "B/32" else None,
            sides=(ours, theirs),
            per="images/s",
            beside=beside,
        )

    yield from _step(f"{name}: tower", lambda: run("gpu.towers", job), towers)
    yield from _step(
        f"{name}: files",
        lambda: {
            "ours": run("gpu.ours_files", job)["rate"],
            "theirs": run("theirs.loader", job)["rate"],
        },
        files,
    )
    yield from _step(
        f"{name}: cosine error against float32",
        lambda: run("gpu.precision", job),
        lambda found: Row(
            f"{name}: cosine error of auto", found["auto"], 1e-3, "", True, beside={"dtype": found["dtype"]}
        ),
    )


def _step(
    name: str, work: Callable[[], Result], row: Callable[[Result], Row]
) -> Iterator[tuple[Row | None, str]]:
    try:
        yield row(work()), ""
    except SystemExit as error:
        yield None, f"{name}: not run: {error}"


# Each of the following runs in a process of its own.


def material(job: Job) -> Result:
    """Draw JPEGs and write the models of random weights: their paths."""
    import torch
    from tests.benchmarks.peers.material import photos
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder, tiny = Path(job["folder"]), job["rehearsal"]
    (folder / "photos").mkdir()
    count = 32 if tiny else PHOTOS
    paths = photos({"folder": str(folder / "photos"), "count": count, "size": PHOTO})["paths"]
    torch.manual_seed(0)
    clips = {}
    for name, sizes in SIZES.items():
        config = CLIPConfig(
            text_config=sizes["text"] | (TINY if tiny else {}),
            vision_config=sizes["vision"] | (TINY if tiny else {}),
            projection_dim=sizes["projection"],
        )
        clips[name] = str(folder / name.replace("/", "-"))
        model: Any = CLIPModel(config)
        model.half().save_pretrained(clips[name])
        CLIPImageProcessor().save_pretrained(clips[name])
    return {"paths": paths, "clips": clips, "lm": _language_model(folder / "lm", tiny)}


def _language_model(folder: Path, tiny: bool) -> str:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate(["<pad>", "</s>", *alphabet])}
    words |= {f"w{number}": number for number in range(len(words), 32_000)}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    kind: Any = PreTrainedTokenizerFast
    fast = kind(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    fast.save_pretrained(folder)
    sizes: dict[str, Any] = TINY_LM if tiny else LM
    ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes, **ends, vocab_size=32_000))
    model.to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


def one_thread(job: Job) -> Result:
    """Files to pixels, as the product reads them by default on a GPU: images a second."""
    from transformers import CLIPImageProcessor

    from fieldmarks.classification.pipeline import Preparation
    from fieldmarks.classification.preprocess import RecipePreprocessing, recipe_of

    recipe = recipe_of(CLIPImageProcessor())
    assert recipe
    prepare = Preparation(RecipePreprocessing(recipe, recipe.min_side))
    return {"rate": rate((prepare(path, path) for path in cycle(job["paths"])), job["seconds"] / 3)}


def ours_files(job: Job) -> Result:
    """Files to embeddings, with the defaults and without the cache: images a second."""
    embedder = _embedder(job)
    return {"rate": rate(embedder.images(cycle(job["paths"])), job["seconds"])}


def towers(job: Job) -> Result:
    """The image tower, with copies as the product runs it and with pixels that are there: images a second."""
    import numpy as np
    import torch
    from transformers import CLIPModel

    encoder = _embedder(job).encoder
    batch = 8 if job["rehearsal"] else BATCH
    pixels = [
        np.random.default_rng(number).integers(0, 256, (224, 224, 3), np.uint8) for number in range(batch)
    ]
    seconds = job["seconds"] / 3

    def copied() -> Iterator[Any]:
        under_way = encoder.start_images(pixels)
        while True:
            following = encoder.start_images(pixels)
            yield from under_way()
            under_way = following

    engine: Any = encoder.engine
    there = engine._pixels(pixels)
    dtype = getattr(torch, encoder.dtype)
    network: Any = CLIPModel.from_pretrained(job["clip"], dtype=dtype).to(encoder.device).eval()
    normal = torch.randn(batch, 3, 224, 224, device=encoder.device, dtype=dtype)

    def resident(tower: Callable[[Any], Any], inputs: Any) -> Iterator[Any]:
        with torch.inference_mode():
            while True:
                tower(inputs)
                if encoder.device != "cpu":
                    torch.cuda.synchronize()
                yield from range(batch)

    return {
        "copies": rate(copied(), seconds),
        "ours resident": rate(resident(engine._towers.images, there), seconds),
        "eager": rate(resident(network.get_image_features, normal), seconds),
        "compiled": rate(resident(_compiled(network.get_image_features, job), normal), seconds),
    }


def _compiled(function: Any, job: Job) -> Any:
    """Return a compiled function; in a rehearsal as it is, as a CPU's compiler takes minutes."""
    import torch

    return function if job["rehearsal"] else torch.compile(function)


def precision(job: Job) -> Result:
    """The largest cosine error of the default precision against float32, on the photos."""
    import numpy as np

    rows = []
    for dtype in ("float32", "auto"):
        embedder = _embedder(job, dtype=dtype)
        found = [result.vector for result in embedder.images(job["paths"][:64])]
        rows.append(np.array([vector / np.linalg.norm(vector) for vector in found], np.float64))
    return {"auto": float((1 - (rows[0] * rows[1]).sum(axis=1)).max()), "dtype": embedder.encoder.dtype}


def language(job: Job) -> Result:
    """Tokens a second of `--local`, and of plain `generate` at the same batch."""
    import asyncio

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fieldmarks.generation.local import LocalCompleter
    from fieldmarks.generation.question import Question, Sample

    count, new = (8, 16) if job["rehearsal"] else (ANSWERS, NEW)
    prompts = [f"Q: What are useful features of a thing {number:03}?\nA: -" for number in range(count)]
    questions = [Question(prompt, prompt, ("\nQ:",), max_tokens=new) for prompt in prompts]
    completer = LocalCompleter(job["lm"], batch_size=count)

    async def ask() -> int:
        written = 0
        async for group in completer.complete(questions):
            samples = [outcome for _, outcome in group if isinstance(outcome, Sample)]
            written += sum(sample.usage.completion_tokens for sample in samples if sample.usage)
        return written

    asyncio.run(ask())  # loads the model
    began = time.perf_counter()
    written = asyncio.run(ask())
    ours = written / (time.perf_counter() - began)
    device = completer._network.device
    tokenizer: Any = AutoTokenizer.from_pretrained(job["lm"])
    model: Any = AutoModelForCausalLM.from_pretrained(
        job["lm"], dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
    ).to(device)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(device)
    inputs.pop("token_type_ids", None)

    def plain() -> float:
        began = time.perf_counter()
        out = model.generate(**inputs, max_new_tokens=new, do_sample=False, min_new_tokens=new)
        tokens = (out.shape[1] - inputs["input_ids"].shape[1]) * count
        return float(tokens / (time.perf_counter() - began))

    plain()
    return {"ours": ours, "theirs": median(plain() for _ in range(2))}


def rate(items: Iterable[Any], seconds: float) -> float:
    """Return how many items come a second, over some seconds after a warm-up of a third of them."""
    source = iter(items)
    until = time.perf_counter() + seconds / 3
    next(source)
    while time.perf_counter() < until:
        _take(source)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += _take(source)
    taken = time.perf_counter() - began
    if (close := getattr(source, "close", None)) is not None:
        close()
    return count / taken


def _take(source: Iterator[Any]) -> int:
    return sum(1 for _ in islice(source, 32))


def _embedder(job: Job, *, dtype: Any = "auto") -> Any:
    from fieldmarks.classification.embedder import Embedder, Encoder
    from fieldmarks.hub import own_process

    own_process()  # as the command line does
    batch = 8 if job.get("rehearsal") else job.get("batch", BATCH)
    engine: Any = "auto" if "batch" in job else "torch"
    return Embedder(Encoder(job["clip"], dtype=dtype, engine=engine), batch=batch)
