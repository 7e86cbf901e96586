"""The GPU mode: what a bare machine with a GPU, without network, can measure in eight minutes, line by line.

It draws its own JPEGs and makes its own models of random weights, B/32 and L/14 and a language model of a
billion weights. Each step runs in a process of its own for a fixed time after a warm-up. A step that fails is
reported and the others go on; one that would end after LIMIT is not begun, and one that does not end by then
is killed. `rehearsal` does all steps with tiny models, on whatever device is there, to see that they work.

The pipeline imports nothing but numpy, Pillow, torch, torchvision and transformers. The language model's
question comes with the store's and the endpoints' modules, whose packages a bare machine lacks: as the step
calls nothing of theirs, empty modules stand in for them.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest.mock import MagicMock

from tests.benchmarks.peers.rows import Row
from tests.benchmarks.peers.work import CORES, Job, Result, run

LIMIT: Final = 465.0  # seconds of all steps
SHORTEST: Final = 15.0  # seconds that a step takes at least
STORE_AND_ENDPOINTS: Final = ("httpx2", "jsonlines", "msgspec", "openai", "orjson", "tenacity")

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
    steps = _Steps(time.monotonic() + LIMIT * (10 if rehearsal else 1))
    job: dict[str, Any] = {"folder": str(folder), "seconds": seconds, "rehearsal": rehearsal}
    made: Result = {}
    yield from steps.step("models and photos", "gpu.material", job, lambda found: made.update(found))
    if not made:
        return
    job |= {"paths": made["paths"]}
    limit: list[float] = []

    def one_thread(found: Result) -> Row:
        limit.append(found["rate"] * CORES)
        return Row("decoding and scaling, one thread", found["rate"], unit=" images/s")

    yield from steps.step("one thread", "gpu.one_thread", job, one_thread)
    sizes = {name: _Size(name, job | {"clip": made["clips"][name]}, steps) for name in SIZES}
    language = job | {"lm": made["lm"]}
    for size in sizes.values():
        yield from size.files(limit[0] if limit else 0.0)
    yield from steps.step("--local", "gpu.language", language, partial(_language_row, ""))
    for size in sizes.values():
        yield from size.errors()
        yield from size.towers()
    yield from steps.step(
        "--local, long run", "gpu.long_language", language, partial(_language_row, ", long run")
    )


class _Steps:
    """Runs steps, each within what is left of the time."""

    def __init__(self, until: float) -> None:
        self._until = until

    def step(
        self, name: str, function: str, job: Job, rows: Callable[[Result], Row | list[Row] | None]
    ) -> Iterator[tuple[Row | None, str]]:
        """Yield what `rows` makes of a function's result, or why there is none."""
        left = self._until - time.monotonic()
        if left < SHORTEST:
            yield None, f"{name}: not run: the time is up"
            return
        try:
            found = rows(run(function, job, limit=left))
        except SystemExit as error:
            yield None, f"{name}: not run: {error}"
            return
        for row in found if isinstance(found, list) else [found]:
            if row:
                yield row, ""


def _language_row(how: str, found: Result) -> Row:
    return Row(
        f"--local{how}, of plain generate",
        100 * found["ours"] / found["theirs"],
        None if how else 90,
        "%",
        sides=(found["ours"], found["theirs"]),
        per="tokens/s",
    )


class _Size:
    """The steps with a CLIP model of one size."""

    def __init__(self, name: str, job: Job, steps: _Steps) -> None:
        self._name = name
        self._job = job
        self._steps = steps
        self._is_small = name == "B/32"

    def files(self, limit: float) -> Iterator[tuple[Row | None, str]]:
        """Files to embeddings, against a DataLoader; `limit` is what all cores decode."""
        theirs: Result = {}

        def row(title: str, goal: float, found: Result) -> Row:
            ours = found["rate"]
            beside = {"of cores x one thread": f"{100 * ours / limit:.0f}%"} if limit else {}
            if not theirs:
                return Row(title, ours, unit=" images/s", beside=beside)
            sides = (ours, theirs["rate"])
            least = goal if self._is_small else None
            return Row(title, ours / theirs["rate"], least, sides=sides, per="images/s", beside=beside)

        name, step = self._name, self._steps.step
        yield from step(f"{name}: DataLoader", "theirs.loader", self._job, theirs.update)
        title = f"{name}: files, against a DataLoader"
        yield from step(title, "gpu.ours_files", self._job, partial(row, title, 1.15))
        title = f"{name}: the same, --decode gpu"
        yield from step(title, "gpu.ours_files", {**self._job, "decode": "gpu"}, partial(row, title, 2.5))

    def towers(self) -> Iterator[tuple[Row | None, str]]:
        """The image tower, against one that is compiled and has its pixels on the GPU."""

        def rows(found: Result) -> list[Row]:
            best = max(found["eager"], found["compiled"])
            others = {key: f"{found[key]:.0f} images/s" for key in ("eager", "compiled", "ours resident")}
            return [
                Row(
                    f"{self._name}: tower with copies{how}",
                    100 * found[key] / best,
                    70 if self._is_small else 85,
                    "%",
                    sides=(found[key], best),
                    per="images/s",
                    beside=others,
                )
                for key, how in (("copies", ""), ("copies, compiled", ", long run"))
            ]

        yield from self._steps.step(f"{self._name}: tower", "gpu.towers", self._job, rows)

    def errors(self) -> Iterator[tuple[Row | None, str]]:
        """How far embeddings are from those at float32, and those of a GPU's decoding from a CPU's."""

        def rows(found: Result) -> list[Row]:
            return [
                Row(
                    f"{self._name}: cosine error, {what}", error, goal, "", True, beside=found["beside"][what]
                )
                for what, goal in (("auto", 1e-3), ("--decode gpu", None))
                if (error := found["errors"].get(what)) is not None
            ]

        yield from self._steps.step(f"{self._name}: cosine errors", "gpu.precision", self._job, rows)


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
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")  # where weights are drawn faster
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
    """The image tower, with copies as the product runs it and with pixels that are there: images a second.

    In a long run the product compiles its tower too.
    """
    import numpy as np
    import torch
    from transformers import CLIPModel

    from fieldmarks.classification.engines.torch import TorchEngine

    encoder = _embedder(job).encoder
    batch = 8 if job["rehearsal"] else BATCH
    pixels = [
        np.random.default_rng(number).integers(0, 256, (224, 224, 3), np.uint8) for number in range(batch)
    ]
    seconds = job["seconds"] / 3
    engine: Any = encoder.engine
    compiling = TorchEngine(
        encoder.checkpoint, device=encoder.device, dtype=encoder.dtype, compile_after=0.0
    )  # which a CPU never does

    def copied(engine: Any) -> Iterator[Any]:
        under_way = engine.start_images(pixels)
        while True:
            following = engine.start_images(pixels)
            yield from under_way()
            under_way = following

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
        "copies": rate(copied(engine), seconds),
        "copies, compiled": rate(copied(compiling), seconds),
        "ours resident": rate(resident(engine._towers.images, there), seconds),
        "eager": rate(resident(network.get_image_features, normal), seconds),
        "compiled": rate(resident(_compiled(network.get_image_features, job), normal), seconds),
    }


def _compiled(function: Any, job: Job) -> Any:
    """Return a compiled function; in a rehearsal as it is, as a CPU's compiler takes minutes."""
    import torch

    return function if job["rehearsal"] else torch.compile(function)


def precision(job: Job) -> Result:
    """Cosine errors on the photos: the default precision's, and decoding on the GPU's, each by itself."""
    import numpy as np

    from fieldmarks.classification.engines.checkpoint import missing_to_decode

    def embeddings(**options: Any) -> tuple[Any, str]:
        embedder = _embedder(job, **options)
        found = [result.vector for result in embedder.images(job["paths"][:128])]
        rows = np.array([vector / np.linalg.norm(vector) for vector in found], np.float64)
        return rows, f"{embedder.encoder.dtype}, decoded {embedder.encoder.decoding}"

    exact, reference = embeddings(dtype="float32")
    others = {"auto": embeddings()}
    if missing_to_decode(_embedder(job).encoder.device) is None:
        others["--decode gpu"] = embeddings(dtype="float32", decode="gpu")
    result: Result = {"errors": {}, "beside": {}}
    for what, (rows, how) in others.items():
        errors = 1 - (exact * rows).sum(axis=1)
        result["errors"][what] = float(errors.max())
        told = f"{how}, against {reference}, {len(errors)} photos"
        result["beside"][what] = {"median": f"{np.median(errors):.1e}", "of": told}
    return result


def language(job: Job) -> Result:
    """Tokens a second of `--local`, and of plain `generate` at the same batch."""
    return _language(job)


def long_language(job: Job) -> Result:
    """The same in a long run, for which the model is compiled."""
    return _language(job, compile_after=0.0)


def _language(job: Job, **options: Any) -> Result:
    import asyncio

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for missing in STORE_AND_ENDPOINTS:
        if find_spec(missing) is None:
            sys.modules[missing] = MagicMock()
    from fieldmarks.generation.local import LocalCompleter
    from fieldmarks.generation.question import Question, Sample

    count, new = (8, 16) if job["rehearsal"] else (ANSWERS, NEW)
    prompts = [f"Q: What are useful features of a thing {number:03}?\nA: -" for number in range(count)]
    questions = [Question(prompt, prompt, ("\nQ:",), max_tokens=new) for prompt in prompts]
    completer = LocalCompleter(job["lm"], batch_size=count, **options)

    async def ask() -> int:
        written = 0
        async for group in completer.complete(questions):
            samples = [outcome for _, outcome in group if isinstance(outcome, Sample)]
            written += sum(sample.usage.completion_tokens for sample in samples if sample.usage)
        return written

    asyncio.run(ask())  # loads the model, and compiles it in a long run
    began = time.perf_counter()
    written = asyncio.run(ask())
    ours = written / (time.perf_counter() - began)
    if options and not completer._compiled_size:
        raise SystemExit("the model could not be compiled")
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


def _embedder(job: Job, **options: Any) -> Any:
    from fieldmarks.classification.embedder import Embedder, Encoder
    from fieldmarks.hub import own_process

    own_process()  # as the command line does
    batch = 8 if job.get("rehearsal") else job.get("batch", BATCH)
    engine: Any = "auto" if "batch" in job else "torch"
    options = {"decode": job.get("decode", "auto")} | options
    return Embedder(Encoder(job["clip"], engine=engine, **options), batch=batch)
