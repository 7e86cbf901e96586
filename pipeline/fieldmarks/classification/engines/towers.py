"""A network's two functions as torch modules, for torch to compute and for other engines to convert."""

from typing import Any

import torch
from torch import Tensor, nn

from fieldmarks.classification.engines.checkpoint import ClipLike
from fieldmarks.classification.preprocess import Recipe


class TextTower(nn.Module):
    """Token ids (M, T), and whatever else the tokenizer gives, to embeddings (M, D)."""

    def __init__(self, network: ClipLike) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Return the embeddings (M, D)."""
        more = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {name: one for name, one in more.items() if one is not None}
        return features(self.network.get_text_features(input_ids=input_ids, **given))


class ImageTower(nn.Module):
    """Pixels of 8 bits (N, H, W, 3) to embeddings (N, D), with rescaling and normalisation as first step."""

    scale: Tensor  # (3,)
    shift: Tensor  # (3,)

    def __init__(self, network: ClipLike, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("scale", "shift"), recipe.scale_and_shift, strict=True):
            self.register_buffer(name, torch.from_numpy(values))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embeddings (N, D)."""
        normal = pixels.to(torch.float32) * self.scale + self.shift
        normal = normal.permute(0, 3, 1, 2).to(self.network.dtype)  # (N, 3, H, W)
        return features(self.network.get_image_features(pixel_values=normal))


def features(output: Any) -> Tensor:
    """Return the embeddings in a model's output: transformers 5 gives an object instead of a tensor."""
    tensor: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return tensor
