"""Train the demo's CLIP, a small CLIPModel that knows drawn creatures by their traits, on one CPU core."""

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import WORDINGS, Creature, demo_species, random_creature
from training.clip_texts import one_text_per_value, train_tokenizer
from training.fitting import fit
from training.losses import attribute_loss, random_subsets, subset_loss, true_texts, wording_loss


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """The model's size and the length of its training."""

    seed: int = 1
    drawings: int = 12_000
    text_steps: int = 300
    steps: int = 2_500
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    smallest_subset: int = 3
    image_size: int = 64
    patch_size: int = 8
    vision_width: int = 128
    vision_layers: int = 3
    text_width: int = 96
    text_layers: int = 2
    joint: int = 64
    merges: int = 500
    max_length: int = 77


@dataclass(frozen=True, slots=True)
class TrainedClip:
    """A model with its processor, and the loss of every step."""

    model: CLIPModel
    processor: CLIPProcessor
    losses: list[float]

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def train_clip(settings: ClipSettings) -> TrainedClip:
    """Train a model; the same settings give the same model on the same library versions."""
    torch.manual_seed(settings.seed)
    processor = build_processor(settings)
    model = build_model(settings, processor.tokenizer)
    set_patch_weights(model)
    creatures = unseen_creatures(settings.drawings, settings.seed)
    print(f"drawing {len(creatures)} creatures", file=sys.stderr)
    resample = processor.image_processor.resample
    drawings = draw_all(creatures, settings.image_size, resample, settings.seed)
    return TrainedClip(model, processor, _fit(model, processor, drawings, settings))


@dataclass(frozen=True, slots=True)
class Drawings:
    """Pixels (N, 3, H, W) uint8 and, for each attribute, the index of the value shown, (N, 8) int64."""

    pixels: torch.Tensor
    values: torch.Tensor


def unseen_creatures(count: int, seed: int) -> list[Creature]:
    """Return random creatures, none of which looks like a species of the demo."""
    rng = random.Random(seed)
    held_out = set(demo_species().values())
    drawn = (random_creature(rng) for _ in range(count + count // 10 + len(held_out)))
    return [creature for creature in drawn if creature not in held_out][:count]


def draw_all(creatures: Sequence[Creature], size: int, resample: int, seed: int) -> Drawings:
    """Draw each creature, reduced to `size` pixels per side by the image processor's resampling."""
    rng = random.Random(seed)
    pixels = np.empty((len(creatures), size, size, 3), dtype=np.uint8)
    for row, creature in enumerate(creatures):
        image = draw(creature, rng).resize((size, size), Image.Resampling(resample))
        pixels[row] = np.asarray(image)
    values = [
        [list(WORDINGS[attribute]).index(value) for attribute, value in creature.traits()]
        for creature in creatures
    ]
    return Drawings(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(values))


def build_processor(settings: ClipSettings) -> CLIPProcessor:
    """Return the tokenizer and the image processor, which scales pixels to -1 to 1."""
    size = settings.image_size
    images = CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    tokenizer = train_tokenizer(settings.merges, settings.max_length, settings.seed)
    return CLIPProcessor(images, tokenizer)  # type: ignore[no-untyped-call]


def build_model(settings: ClipSettings, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained model for this tokenizer."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.text_width,
        "intermediate_size": 2 * settings.text_width,
        "num_hidden_layers": settings.text_layers,
        "num_attention_heads": 4,
        "max_position_embeddings": settings.max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,  # the position that CLIP pools
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": settings.vision_width,
        "intermediate_size": 3 * settings.vision_width,
        "num_hidden_layers": settings.vision_layers,
        "num_attention_heads": 4,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "hidden_act": "gelu",  # one kernel; CLIP's own quick_gelu is three
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.joint))


@torch.no_grad()
def set_patch_weights(model: CLIPModel) -> None:
    """Initialise patches and positions at similar strength, positions as waves over rows and columns.

    CLIP's own initialisation has random positions, ten times weaker than patches.
    """
    embeddings = model.vision_model.embeddings
    side = math.isqrt(embeddings.num_patches)
    embeddings.patch_embedding.weight.normal_(0, 0.05)
    embeddings.position_embedding.weight[1:] = 0.4 * grid_waves(side, embeddings.embed_dim)


def grid_waves(side: int, width: int) -> torch.Tensor:
    """Return sines and cosines of patches' rows and columns at falling frequencies, (side * side, width)."""
    frequencies = math.pi * torch.exp(torch.linspace(0, 1, width // 4) * math.log(1 / 32))
    angles = torch.arange(side)[:, None] * frequencies  # (side, width / 4)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def _fit(
    model: CLIPModel, processor: CLIPProcessor, drawings: Drawings, settings: ClipSettings
) -> list[float]:
    """Train the model in place, first on text only; return the loss of every step with drawings."""
    rng = random.Random(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    model.train()
    rate = settings.learning_rate
    fit(
        model,
        _optimizer(model, settings),
        rate,
        settings.text_steps,
        lambda: _text_loss(model, processor, rng)[1],
    )

    def loss() -> torch.Tensor:
        rows = torch.randint(len(drawings.values), (settings.batch,), generator=generator)
        batch = Drawings(drawings.pixels[rows], drawings.values[rows])
        return _loss(model, processor, batch, settings.smallest_subset, rng, generator)

    losses = fit(model, _optimizer(model, settings), rate, settings.steps, loss)
    model.eval()  # type: ignore[no-untyped-call]
    return losses


def _optimizer(model: CLIPModel, settings: ClipSettings) -> torch.optim.AdamW:
    """Return AdamW with weight decay only on matrices: not on biases, norms or the logit scale."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def _text_loss(
    model: CLIPModel, processor: CLIPProcessor, rng: random.Random
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a fresh wording of every value, projected, (T, D), and its loss against another wording."""
    wordings = [*one_text_per_value(rng), *one_text_per_value(rng)]
    tokens = processor.tokenizer(wordings, padding=True, return_tensors="pt")
    pooled = model.text_model(**tokens).pooler_output
    texts, others = model.text_projection(pooled).chunk(2)
    return texts, wording_loss(texts, others, _scale(model))


def _loss(
    model: CLIPModel,
    processor: CLIPProcessor,
    batch: Drawings,
    smallest_subset: int,
    rng: random.Random,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the sum of all losses of a batch of drawings, against a fresh wording of every value."""
    texts, apart = _text_loss(model, processor, rng)
    pixels = _normalised(_shifted(batch.pixels, rng))
    images = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    images = functional.normalize(images, dim=1)  # (B, D), rows of length 1
    scale = _scale(model)
    logits = scale * images @ functional.normalize(texts, dim=1).T  # (B, T)
    true = true_texts(batch.values)
    chosen = random_subsets(true, smallest_subset, generator)
    described = subset_loss(images, texts, true, chosen, scale)
    return apart + attribute_loss(logits, batch.values) + described


def _scale(model: CLIPModel) -> torch.Tensor:
    return model.logit_scale.exp().clamp(max=100)


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Scale uint8 pixels to -1 to 1, as the image processor does."""
    return pixels.float() / 127.5 - 1


def _shifted(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Shift the drawings by up to three pixels, so that the patches fall elsewhere."""
    return pixels.roll((rng.randint(-3, 3), rng.randint(-3, 3)), dims=(2, 3))
