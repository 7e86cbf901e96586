"""A causal language model run in this process by transformers: batched by length, greedy or sampled.

Answers of a batch are drawn token by token, each with its own end and its own dice. Models are ordinary
Hugging Face folders or ids; only safetensors are read and no code of a model's is run.

A GPU computes ahead of the CPU as long as nothing is fetched from it. So there stop texts are looked for in
the tokens, by tables of how each token may be part of one, and not in the text; what an answer has after its
stop text is cut off either way. And once a run is long, keys and values are kept in tensors of a fixed size,
for which transformers compiles the model: that takes a minute and saves the time of starting each step.
"""

import asyncio
import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StopStringCriteria,
)

from fieldmarks.errors import ModelError
from fieldmarks.generation.dialects import COMPLETIONS
from fieldmarks.generation.parse import attach
from fieldmarks.generation.prompt import turns
from fieldmarks.generation.question import Charge, Failure, Outcome, Question, Sample, Usage, unlimited
from fieldmarks.hub import ModelSource, one_line
from fieldmarks.paths import open_regular

TAIL: Final = 16  # tokens of an answer's end that are searched for a stop text
LEAST_ROOM: Final = 8  # tokens that must be left for an answer
WINDOW: Final = 8  # batches that are sorted by length together
BATCH: Final = 16  # answers drawn together on a CPU
BATCH_ON_GPU: Final = 256  # at most; its free memory may hold fewer
COMPILE_AFTER: Final = 120.0  # seconds that a GPU has written
_SHARE: Final = 0.8  # of a GPU's free memory

logger = logging.getLogger(__name__)

Encoded = tuple[Question, list[int]]  # with the tokens of its prompt


class LocalCompleter:
    """Answers requests with a causal LM; the model is loaded at the first request."""

    endpoint = None
    timeout = 600.0  # seconds; nothing bounds a batch, but no sensible one takes longer
    retrying = 0

    def __init__(
        self,
        model: str | Path,
        *,
        mode: str = "auto",
        batch_size: int | None = None,
        stop_by_tokens: bool | None = None,
        compile_after: float | None = None,
    ) -> None:
        """Name a folder or id.

        `batch_size` answers are drawn together, by default 16 on a CPU and as many as fit on a GPU; there
        stop texts are looked for in the tokens, and full batches are compiled once `compile_after` seconds
        were spent on batches, by default 120; see the module.
        `mode` "completions", and so "auto", continues the raw prompt as any causal LM does; "continue" puts
        it into the chat template of an instruct model and continues the answer's beginning.
        """
        self._source = ModelSource(str(model), "a causal language model")
        self.mode = COMPLETIONS if mode == "auto" else mode
        self._on_gpu = torch.cuda.is_available()
        self._fits = batch_size is None and self._on_gpu  # a batch is what fits into the GPU's memory
        self._batch_size = batch_size or (BATCH_ON_GPU if self._on_gpu else BATCH)
        self._stops_by_tokens = self._on_gpu if stop_by_tokens is None else stop_by_tokens
        self._stops: dict[tuple[str, ...], StopStringCriteria | None] = {}
        if compile_after is None:
            compile_after = COMPILE_AFTER if self._on_gpu else math.inf
        self._compile_after = compile_after
        self._seconds = 0.0  # that batches took
        self._compiled_size = 0  # of the batches that are compiled: another size would be compiled anew
        self.window = self._batch_size * WINDOW
        self.slowest = 0.0  # seconds of a batch
        self._draining = False
        self._halted = threading.Event()

    @cached_property
    def model(self) -> str:
        """The id, or for a folder its name and a fingerprint of what it holds."""
        if not self._source.local:
            return self._source.name
        files = self._source.fingerprint(_file_digest) or ""
        digest = hashlib.sha256(files.encode("utf-8", "surrogateescape")).hexdigest()
        return f"{Path(self._source.name).resolve().name}@{digest[:8]}"

    def load(self) -> None:
        """Load tokenizer and weights now. Raises ModelError."""
        _ = self._tokenizer, self._network

    async def complete(
        self, questions: Iterable[Question], charge: Charge = unlimited
    ) -> AsyncGenerator[list[Outcome], None]:
        """Yield a batch of answers at a time. Raises ModelError if the model cannot be loaded."""
        pending = iter(questions)
        self._halted.clear()
        try:
            while not self._draining and (window := list(islice(pending, self.window))):
                await asyncio.to_thread(self.load)
                encoded, refused = self._encode(window)
                if refused:
                    yield refused
                encoded.sort(key=lambda entry: len(entry[1]))
                while encoded and not self._draining:
                    size = self._size(encoded[: self._batch_size])
                    batch, encoded = encoded[:size], encoded[size:]
                    yield await asyncio.to_thread(self._answer, batch)
        finally:
            self._halted.set()  # a batch that runs on in its thread ends at its next token

    def drain(self) -> None:
        """Start no further batch."""
        self._draining = True

    def leftovers(self) -> list[Outcome]:
        """Return nothing: each batch is yielded whole, and one that is stopped has no whole answers."""
        return []

    def _encode(self, questions: Iterable[Question]) -> tuple[list[Encoded], list[Outcome]]:
        encoded: list[Encoded] = []
        refused: list[Outcome] = []
        for question in questions:
            ids = self._ids(question)
            if len(ids) + LEAST_ROOM > self.context:
                reason = f"the prompt has {len(ids)} tokens, too many for a context of {self.context}"
                refused.append((question, Failure(reason)))
            else:
                encoded.append((question, ids))
        return encoded, refused

    def _ids(self, question: Question) -> list[int]:
        if self.mode == COMPLETIONS:
            return list(self._tokenizer(question.prompt, verbose=False)["input_ids"])
        chat = [{"role": role, "content": text} for role, text in turns(question.prompt)]
        begun = bool(chat[-1]["content"])
        how = {"continue_final_message": begun, "add_generation_prompt": not begun}
        try:
            rendered = self._tokenizer.apply_chat_template(
                chat if begun else chat[:-1], tokenize=False, **how
            )
        except Exception as error:  # templates are untrusted programs
            advice = "use --mode completions"
            raise ModelError(
                f"{self._source.name} has no usable chat template ({one_line(error)}): {advice}"
            ) from error
        return list(self._tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"])

    def _size(self, batch: list[Encoded]) -> int:
        """Return how many of a batch's questions to answer at once: on a GPU those that its memory holds."""
        if not self._fits:
            return len(batch)
        tokens = max(len(ids) + question.max_tokens for question, ids in batch)
        free, _ = torch.cuda.mem_get_info(self._network.device)
        reusable = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        each = row_bytes(
            self._network.config.get_text_config(), min(tokens, self.context), self._network.dtype.itemsize
        )
        return max(1, min(len(batch), int(_SHARE * (free + reusable)) // each))

    def _answer(self, batch: list[Encoded]) -> list[Outcome]:
        begun = time.monotonic()
        try:
            outcomes = self._generate(batch)
            taken = time.monotonic() - begun
            self.slowest = max(self.slowest, taken)
            self._seconds += taken
            return outcomes
        except torch.OutOfMemoryError as error:
            if len(batch) > 1 and self._fits:
                torch.cuda.empty_cache()
                half = len(batch) // 2
                return self._answer(batch[:half]) + self._answer(batch[half:])
            raise ModelError(
                f"{self._source.name}: the GPU is out of memory ({one_line(error)}): free memory that other"
                " programs use, or pass a lower --concurrency"
            ) from error
        except RuntimeError as error:  # torch's, for memory that is not there and much else
            advice = "a lower --concurrency makes smaller batches"
            raise ModelError(
                f"{self._source.name} failed while generating ({one_line(error)}): {advice}"
            ) from error

    def _generate(self, batch: list[Encoded]) -> list[Outcome]:
        """Run one batch. Greedy rows and sampled ones may stand together."""
        questions, prompts = zip(*batch, strict=True)
        longest = max(map(len, prompts))
        pad = self._pad
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts])  # (B, longest)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
        room = min(max(question.max_tokens for question in questions), self.context - longest)
        device = self._network.device
        shown = self._shown_by_tokens(questions) or partial(self._shown, questions)

        def ended(ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            """Return which rows show one of their stop texts, and all once the run is over: (B,) of bool."""
            if self._halted.is_set():
                return torch.ones(len(batch), dtype=torch.bool, device=device)
            return shown(ids[:, longest:])

        def generated(cache: str | None) -> torch.Tensor:
            config = GenerationConfig(  # type: ignore[no-untyped-call]
                max_new_tokens=room,
                do_sample=False,
                num_beams=1,
                return_dict_in_generate=False,
                pad_token_id=pad,
                cache_implementation=cache,
            )
            with torch.inference_mode():
                out: torch.Tensor = self._network.generate(
                    ids.to(device),
                    attention_mask=mask.to(device),
                    generation_config=config,
                    stopping_criteria=[ended],
                    logits_processor=[_dice(questions)] if any(q.temperature for q in questions) else [],
                )
            return out  # (B, longest + new)

        rows = self._compiled_where_it_pays(len(batch), generated)[:, longest:].tolist()
        return [
            (question, self._sample(question, prompt, row))
            for (question, prompt), row in zip(batch, rows, strict=True)
        ]

    def _compiled_where_it_pays(
        self, size: int, generated: Callable[[str | None], torch.Tensor]
    ) -> torch.Tensor:
        """Return what `generated` does, in a long run with a cache of a fixed size, if that works."""
        if self._seconds >= self._compile_after and self._compiled_size in (0, size):
            try:
                rows = generated("static")
                self._compiled_size = size
                return rows
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # no compiler, a model that cannot be compiled, a GPU that is too old
                logger.debug("the language model cannot be compiled: %s", one_line(error))
                self._compile_after = math.inf
        return generated(None)

    def _shown(self, questions: Sequence[Question], new: torch.Tensor) -> torch.Tensor:
        """Return which rows of new tokens (B, T) show a stop text at their end, by reading them: (B,)."""
        texts = self._tokenizer.batch_decode(new[:, -TAIL:].tolist(), skip_special_tokens=True)
        rows = zip(texts, questions, strict=True)
        shown = [first_stop(text, question.stop) is not None for text, question in rows]
        return torch.tensor(shown, device=new.device)

    def _shown_by_tokens(
        self, questions: Sequence[Question]
    ) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Return what finds that without reading; None where it is read, or cannot be found otherwise."""
        if not self._stops_by_tokens:
            return None
        found = []
        for stop in {question.stop for question in questions if question.stop}:
            if (criterion := self._criterion(stop)) is None:
                return None
            rows = [question.stop == stop for question in questions]
            found.append((criterion, torch.tensor(rows, device=self._network.device)))

        def shown(new: torch.Tensor) -> torch.Tensor:
            none = torch.zeros(len(questions), dtype=torch.bool, device=new.device)
            return sum((criterion(new, None) & rows for criterion, rows in found), start=none)

        return shown

    def _criterion(self, stop: tuple[str, ...]) -> StopStringCriteria | None:
        """Return transformers' tables for stop texts, which take a second to make for a large vocabulary."""
        if stop not in self._stops:
            try:
                self._stops[stop] = StopStringCriteria(self._tokenizer, list(stop))
            except Exception as error:  # it knows the usual tokenizers
                logger.debug("stop texts are looked for in the text: %s", one_line(error))
                self._stops[stop] = None
        return self._stops[stop]

    def _sample(self, question: Question, ids: list[int], row: list[int]) -> Sample:
        """Return the answer that a row of new tokens is; `ids` are the prompt's."""
        row = row[: question.max_tokens]
        ended = next((at for at, token in enumerate(row) if token in self._ends), None)
        row = row[:ended]
        text = self._tokenizer.decode(row, skip_special_tokens=True)
        stop = first_stop(text, question.stop)
        if stop is not None:
            row = self._until_stop(row, question.stop)
        whole, continued = attach(question.forced, text if stop is None else text[:stop])
        finish_reason = "length" if ended is None and stop is None else "stop"
        return question.answered(
            whole, finish_reason, Usage(len(ids), len(row)), self.mode, continued=continued
        )

    def _until_stop(self, row: list[int], stops: Sequence[str]) -> list[int]:
        """Return a row without the tokens that came after its stop text."""
        while row:
            shorter = self._tokenizer.decode(row[:-1], skip_special_tokens=True)
            if first_stop(shorter, stops) is None:
                break
            row = row[:-1]
        return row

    @cached_property
    def _tokenizer(self) -> Any:
        return self._source.load(AutoTokenizer)

    @cached_property
    def _network(self) -> Any:
        cuda = torch.cuda.is_available()
        dtype = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float32
        network = self._source.load_network(AutoModelForCausalLM, dtype=dtype)
        return network.to("cuda" if cuda else "cpu")

    @cached_property
    def context(self) -> int:
        """Tokens that prompt and answer share; 2048 where the model does not say."""
        config = self._network.config.get_text_config()
        limits = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "n_ctx")]
        return min([int(size) for size in limits if size] or [2048])

    @cached_property
    def _ends(self) -> set[int]:
        ends = self._network.generation_config.eos_token_id
        return {self._pad, *(ends if isinstance(ends, list) else [ends] if ends is not None else [])}

    @cached_property
    def _pad(self) -> int:
        for token in (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0


def _dice(questions: Sequence[Question]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what makes the greedy choice a draw at each row's temperature, with dice of the row's own.

    The largest of logit / temperature plus Gumbel noise is distributed as the softmax (Gumbel-max), and
    with a generator a row an answer does not depend on what else stands in its batch.
    """
    generators: list[torch.Generator] = []

    def drawn(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores to take the largest of: (B, V)."""
        scores = scores.float()
        if not generators:  # on the device, which is not waited for
            generators.extend(torch.Generator(scores.device) for _ in questions)
            for question, generator in zip(questions, generators, strict=True):
                generator.seed() if question.seed is None else generator.manual_seed(question.seed)
        for row, (question, generator) in enumerate(zip(questions, generators, strict=True)):
            if question.temperature:
                shape, device = scores[row].shape, scores.device
                uniform = torch.rand(shape, generator=generator, device=device).clamp_min_(1e-20)  # (V,)
                noise = -(-uniform.log()).log()
                scores[row] = scores[row] / question.temperature + noise
        return scores

    return drawn


def row_bytes(config: Any, tokens: int, itemsize: int) -> int:
    """Return the bytes that an answer takes in a batch: keys and values of its tokens, and its scores."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    cache = 2 * config.num_hidden_layers * kept * width * itemsize * tokens
    return int(2 * cache + 3 * 4 * config.vocab_size)  # the cache is copied as it grows; scores in float32


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of the stop texts begins in a text, or None."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


def _file_digest(path: Path) -> str:
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
