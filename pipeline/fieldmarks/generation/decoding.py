"""How a batch of answers is drawn token by token: where each ends, and by which dice."""

import threading
from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import LogitsProcessor, StoppingCriteria

TAIL: Final = 16  # tokens of an answer's end that are searched for a stop text


class StopTexts(StoppingCriteria):
    """Ends each row where its text shows one of its stop texts."""

    def __init__(self, tokenizer: Any, stops: Sequence[Sequence[str]], start: int) -> None:
        """`stops` holds each row's stop texts; the answers begin at column `start`."""
        self._tokenizer = tokenizer
        self._stops = stops
        self._start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return which rows are done: (B,) of bool."""
        tails = input_ids[:, max(self._start, input_ids.shape[1] - TAIL) :].tolist()
        texts = self._tokenizer.batch_decode(tails, skip_special_tokens=True)
        done = [first_stop(text, stop) is not None for text, stop in zip(texts, self._stops, strict=True)]
        return torch.tensor(done, device=input_ids.device)


class Halt(StoppingCriteria):
    """Ends all rows once an event is set."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return which rows are done: (B,) of bool."""
        return torch.full((input_ids.shape[0],), self._event.is_set(), device=input_ids.device)


class SeededSampling(LogitsProcessor):
    """Makes the greedy choice a draw at each row's temperature, with dice of the row's own.

    The largest of logit / temperature plus Gumbel noise is distributed as the softmax (Gumbel-max), and
    with a generator a row an answer does not depend on what else stands in its batch.
    """

    def __init__(self, rows: Sequence[tuple[float, int | None]]) -> None:
        """`rows` holds each row's temperature (0: greedy) and seed (None: a fresh one)."""
        self._rows = [(temperature, _generator(seed)) for temperature, seed in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores to take the largest of: (B, V)."""
        if not any(temperature for temperature, _ in self._rows):
            return scores
        return torch.stack([self._drawn(row, *how) for row, how in zip(scores, self._rows, strict=True)])

    def _drawn(self, scores: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
        if not temperature:
            return scores
        uniform = torch.rand(scores.shape, generator=generator).clamp_min_(1e-20).to(scores.device)
        return scores.float() / temperature - (-uniform.log()).log()  # (V,)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of the stop texts begins in a text, or None."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found, default=None)


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
