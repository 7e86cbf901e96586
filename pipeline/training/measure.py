"""Measure the two models as users load them: from their folders, on new drawings and prompts."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer, CLIPModel

from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import WORDINGS, Creature, all_species, demo_species, entry, is_true_of, trait_of
from training.lm_texts import prompt_for
from training.words import invented_word

Share = float
"""From 0 to 1, rounded to four places."""


def measure_clip(folder: Path, seeds: Sequence[int], per_species: int) -> dict[str, Any]:
    """Return the top-1 accuracy of each arm and attribute, on each seed's drawings of the demo's species."""
    eyes = _Clip(folder)
    creatures = demo_species()
    owners = torch.arange(len(creatures)).repeat_interleave(per_species)
    classes = _class_vectors(eyes)
    accuracy: dict[str, list[Share]] = {arm: [] for arm in classes}
    values: dict[str, list[Share]] = {attribute: [] for attribute in WORDINGS}
    confidence = []
    for seed in seeds:
        rng = random.Random(seed)
        drawings = [draw(creature, rng) for creature in creatures.values() for _ in range(per_species)]
        images = eyes.images(drawings)  # (N, D)
        for arm, vectors in classes.items():
            accuracy[arm].append(_share((images @ vectors.T).argmax(dim=1) == owners))
        probabilities = (eyes.scale * images @ classes["mean-embedding"].T).softmax(dim=1)
        confidence.append(probabilities.max(dim=1).values.mean().item())
        shown = [creature for creature in creatures.values() for _ in range(per_species)]
        for attribute, share in _value_accuracy(eyes, images, shown).items():
            values[attribute].append(share)
    return {
        "images_per_species": per_species,
        "seeds": list(seeds),
        "top1": accuracy,
        "attribute_top1": {attribute: _mean(shares) for attribute, shares in values.items()},
        "top1_by_other_invented_names": _mean(_stranger_accuracy(eyes, images, owners, seeds[-1])),
        "mean_confidence": _mean(confidence),
        "logit_scale": round(eyes.scale, 3),
    }


def measure_lm(folder: Path, unknown: int, seed: int) -> dict[str, Any]:
    """Return the recall of true traits, decoded greedily, alone and in a left-padded batch; unknown names."""
    writer = _Writer(folder)
    names = list(demo_species())
    capitalised = [name.capitalize() for name in names]
    rng = random.Random(seed)
    strangers = [invented_word(rng) for _ in range(unknown)]
    answers = writer.answers([prompt_for(name) for name in strangers])
    return {
        "recall_demo_species": _recall({name: writer.answers([prompt_for(name)])[0] for name in names}),
        "recall_all_species": _recall(dict(zip(all_species(), writer.batched(all_species()), strict=True))),
        "recall_capitalised": _recall(dict(zip(names, writer.batched(capitalised), strict=True))),
        "unknown_names": unknown,
        "unknown_names_with_only_trait_phrases": _mean([all(map(trait_of, answer)) for answer in answers]),
        "unknown_names_mean_phrases": _mean([len(answer) for answer in answers]),
    }


class _Clip:
    """Embeds images and texts with the model and its processor."""

    def __init__(self, folder: Path) -> None:
        self._model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()  # type: ignore[no-untyped-call]
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
        self.scale: float = self._model.logit_scale.exp().item()

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return embeddings (N, D), with rows of length 1."""
        pixels = self._processor.image_processor(list(images), return_tensors="pt").pixel_values
        states = self._model.vision_model(pixel_values=pixels).pooler_output
        return functional.normalize(self._model.visual_projection(states), dim=1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return projected embeddings (M, D), not normalised."""
        tokens = self._processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        states = self._model.text_model(**tokens).pooler_output
        embeddings: torch.Tensor = self._model.text_projection(states)
        return embeddings


def _class_vectors(eyes: _Clip) -> dict[str, torch.Tensor]:
    """Return, for each arm, a vector for each demo species, (C, D)."""
    marks = [eyes.texts(entry(name)) for name in demo_species()]
    paper = [eyes.texts([f"{name}, which has {mark}" for mark in entry(name)]) for name in demo_species()]
    names = eyes.texts([f"a photo of a {name}" for name in demo_species()])
    return {
        "mean-embedding": functional.normalize(torch.stack([e.mean(dim=0) for e in marks]), dim=1),
        "mean-similarity": torch.stack([functional.normalize(e, dim=1).mean(dim=0) for e in marks]),
        "mean-similarity, '{name}, which has {mark}'": torch.stack(
            [functional.normalize(e, dim=1).mean(dim=0) for e in paper]
        ),
        "mean-embedding, lists swapped": functional.normalize(
            torch.stack([e.mean(dim=0) for e in [*marks[1:], marks[0]]]), dim=1
        ),
        "'a photo of a {name}'": functional.normalize(names, dim=1),
    }


def _stranger_accuracy(
    eyes: _Clip, images: torch.Tensor, owners: torch.Tensor, seed: int, sets: int = 200
) -> list[Share]:
    """Return the accuracies of "a photo of a {word}" for sets of invented words.

    Twelve fixed names can be lucky; if names say nothing, the mean is about 1 in 12.
    """
    rng = random.Random(seed)
    shares = []
    for _ in range(sets):
        words = [invented_word(rng) for _ in demo_species()]
        vectors = functional.normalize(eyes.texts([f"a photo of a {word}" for word in words]), dim=1)
        shares.append(_share((images @ vectors.T).argmax(dim=1) == owners))
    return shares


def _value_accuracy(eyes: _Clip, images: torch.Tensor, shown: Sequence[Creature]) -> dict[str, Share]:
    """Return how often the nearest of an attribute's values, in its first wording, is the one shown."""
    shares = {}
    for attribute, values in WORDINGS.items():
        texts = functional.normalize(eyes.texts([phrases[0] for phrases in values.values()]), dim=1)
        truth = torch.tensor([list(values).index(getattr(creature, attribute)) for creature in shown])
        shares[attribute] = _share((images @ texts.T).argmax(dim=1) == truth)
    return shares


class _Writer:
    """Turns prompts into lists of phrases with the model and its tokenizer."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()  # type: ignore[no-untyped-call]
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def batched(self, names: Sequence[str] | Mapping[str, Any]) -> list[list[str]]:
        """Return the phrases for each name, with all prompts in one left-padded batch."""
        return self.answers([prompt_for(name) for name in names])

    @torch.inference_mode()
    def answers(self, prompts: Sequence[str]) -> list[list[str]]:
        """Return the phrases that greedy decoding produces for each prompt."""
        tokens = self._tokenizer(list(prompts), padding=True, return_tensors="pt")
        written = self._model.generate(**tokens, do_sample=False, max_new_tokens=160)
        answers = written[:, tokens.input_ids.shape[1] :]
        return [_phrases(text) for text in self._tokenizer.batch_decode(answers, skip_special_tokens=True)]


def _phrases(answer: str) -> list[str]:
    return [line.removeprefix("-").strip() for line in answer.splitlines() if line.strip()]


def _recall(answers: Mapping[str, Sequence[str]]) -> Share:
    """Return the share of true traits named, over all species; a false or repeated phrase takes one away."""
    hits = 0
    for name, answer in answers.items():
        creature = all_species()[name]
        true = {trait_of(phrase) for phrase in answer if is_true_of(phrase, creature)}
        hits += max(0, len(true) - (len(answer) - len(true)))
    return round(hits / (len(answers) * len(WORDINGS)), 4)


def _share(hits: torch.Tensor) -> Share:
    return round(hits.float().mean().item(), 4)


def _mean(numbers: Sequence[float]) -> float:
    return round(sum(numbers) / len(numbers), 4)
