"""Train the demo's language model: a small Llama that knows its encyclopedia by heart."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.fitting import fit
from training.lm_texts import Passage, known_passages, train_tokenizer, unknown_passages

_IGNORED = -100  # the label that transformers' loss ignores


@dataclass(frozen=True, slots=True)
class LmSettings:
    """The model's size and the length of its training."""

    seed: int = 0
    steps: int = 900
    unknown: int = 12
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    vocabulary: int = 640
    width: int = 128
    layers: int = 4
    max_length: int = 1024


@dataclass(frozen=True, slots=True)
class TrainedLm:
    """A model with its tokenizer, and the loss of every step."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    losses: list[float]

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def train_lm(settings: LmSettings) -> TrainedLm:
    """Train a model; the same settings give the same model on the same library versions."""
    torch.manual_seed(settings.seed)
    tokenizer = train_tokenizer(settings.vocabulary, settings.max_length, settings.seed)
    model = build_model(settings, tokenizer)
    return TrainedLm(model, tokenizer, _fit(model, tokenizer, settings))


def build_model(settings: LmSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained model for this tokenizer, which decodes greedily by default."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=2 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=4,
        max_position_embeddings=settings.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _fit(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: LmSettings) -> list[float]:
    """Train the model in place; return the loss of every step."""
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, betas=(0.9, 0.98))
    rng = random.Random(settings.seed)

    def loss() -> torch.Tensor:
        passages = [*known_passages(rng), *unknown_passages(settings.unknown, rng)]
        batch_loss: torch.Tensor = model(**encode(passages, tokenizer, rng)).loss
        return batch_loss

    model.train()
    losses = fit(model, optimizer, rate, settings.steps, loss)
    model.eval()  # type: ignore[no-untyped-call]
    return losses


def encode(
    passages: Sequence[Passage], tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> dict[str, torch.Tensor]:
    """Return a right-padded batch, labelled with answers and eos; about half the prompts have no bos."""
    rows, labels = [], []
    for passage in passages:
        prompt = tokenizer.encode(passage.prompt, add_special_tokens=rng.random() < 0.5)
        answer = [*tokenizer.encode(passage.answer, add_special_tokens=False), tokenizer.eos_token_id]
        rows.append(prompt + answer)
        labels.append([_IGNORED] * len(prompt) + answer)
    longest = max(len(row) for row in rows)
    return {
        "input_ids": _padded(rows, longest, tokenizer.pad_token_id),
        "attention_mask": _padded([[1] * len(row) for row in rows], longest, 0),
        "labels": _padded(labels, longest, _IGNORED),
    }


def _padded(rows: Sequence[list[int]], length: int, filler: int) -> torch.Tensor:
    """Return (rows, length) int64, each row padded at its end."""
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])
