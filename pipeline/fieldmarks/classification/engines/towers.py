"""The two encoders of a CLIP-like model as torch modules; CLIP's own with less work, to the same numbers.

`TextTower` and `ImageTower` call whatever transformers loaded. `ClipTextTower` and `ClipImageTower` take the
weights of a `CLIPModel` apart, and save

- in the last layer, everything but the one position that is read: it alone needs a query and an MLP;
- one product instead of three for query, key and value, and one pass instead of three for the activation:
  quick-GELU is x * sigmoid(1.702 x), so 1.702 goes into the weights before it, and out of those behind it;
- casts: weights are kept in the precision of the products, while sums and norms stay in float32 on a CPU;
- passes over a product's result for bias and activation, where a CPU multiplies in half precision by oneDNN;
- for texts, beginnings that they share, which are computed once; see trees.py.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from fieldmarks.classification.engines.checkpoint import ClipLike, features, logit_scale
from fieldmarks.classification.preprocess import Recipe

QUICK_GELU: Final = 1.702


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
        present = {name: tensor for name, tensor in more.items() if tensor is not None}
        return features(self.network.get_text_features(input_ids=input_ids, **present))


class Normalisation(nn.Module):
    """Pixels of 8 bits (N, H, W, 3) as the float32 numbers that a model reads."""

    scale: Tensor  # (3,)
    shift: Tensor  # (3,)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        for name, values in zip(("scale", "shift"), recipe.scale_and_shift, strict=True):
            self.register_buffer(name, torch.from_numpy(values))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return rescaled and normalised pixels (N, H, W, 3)."""
        return pixels.to(torch.float32) * self.scale + self.shift


class ImageTower(nn.Module):
    """Pixels of 8 bits (N, H, W, 3) to embeddings (N, D), with rescaling and normalisation as first step."""

    def __init__(self, network: ClipLike, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalisation(recipe)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embeddings (N, D)."""
        normal = self.normalise(pixels).permute(0, 3, 1, 2).to(self.network.dtype)  # (N, 3, H, W)
        return features(self.network.get_image_features(pixel_values=normal))


class WholeNetwork(nn.Module):
    """What a model's own image processor makes of images to embeddings (N, D)."""

    def __init__(self, network: ClipLike) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the embeddings (N, D)."""
        dtype = self.network.dtype
        cast = {
            key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in inputs.items()
        }
        return features(self.network.get_image_features(**cast))


@cache
def fuses_half_precision() -> bool:
    """Whether oneDNN multiplies in bfloat16 on this CPU, and torch has its product with bias and activation.

    That is the operation of compiled models (torch._inductor); a linear layer outside of them copies the bias
    into the result first, and leaves the activation to another pass.
    """
    mkldnn = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(mkldnn, name) for name in ("_linear_pointwise", "_is_mkldnn_bf16_supported"))
        and bool(mkldnn._is_mkldnn_bf16_supported())
    )


def product(layer: nn.Linear, inputs: Tensor, *, swish: bool = False) -> Tensor:
    """Return a linear layer of inputs (..., D), with x * sigmoid(x) as its activation if `swish`."""
    if inputs.dtype == torch.bfloat16 and inputs.device.type == "cpu" and fuses_half_precision():
        activation = "swish" if swish else "none"
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, layer.weight, layer.bias, activation, [], ""
        )
        return fused
    result: Tensor = layer(inputs)
    return silu(result, inplace=True) if swish else result


class Block(nn.Module):
    """A transformer layer of CLIP, whose products are computed in `dtype`."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.heads: int = attention.num_heads
        self.norm1, self.norm2 = layer.layer_norm1, layer.layer_norm2
        self.qkv = nn.Linear(1, 1)
        self.qkv.weight = nn.Parameter(torch.cat([part.weight for part in three]), requires_grad=False)
        self.qkv.bias = nn.Parameter(torch.cat([part.bias for part in three]), requires_grad=False)
        self.out, self.fc1, self.fc2 = attention.out_proj, mlp.fc1, mlp.fc2
        self.activation: nn.Module | None = mlp.activation_fn
        if mlp.config.hidden_act == "quick_gelu":
            self.activation = None
            with torch.no_grad():
                self.fc1.weight.mul_(QUICK_GELU)
                self.fc1.bias.mul_(QUICK_GELU)
                self.fc2.weight.div_(QUICK_GELU)
        for product in (self.qkv, self.out, self.fc1, self.fc2):
            product.to(dtype)

    def forward(self, states: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Return the new states (B, T, W); with `at` (B, E), those of these positions only: (B, E, W).

        `mask` (B, 1, T or E, T) is 0 where a position attends to another and else -infinity; all attend to
        all where there is none.
        """
        width = states.shape[-1]
        normal = self.norm1(states).to(self.qkv.weight.dtype)
        if at is None:
            query, key, value = product(self.qkv, normal).chunk(3, dim=-1)
        else:
            index = at[:, :, None].expand(-1, -1, width)
            states, read = states.gather(1, index), normal.gather(1, index)
            query = linear(read, self.qkv.weight[:width], self.qkv.bias[:width])
            key, value = linear(normal, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
            for part in (query, key, value)
        )
        mixed = scaled_dot_product_attention(query, key, value, mask)  # (B, heads, T or E, W / heads)
        states = states + product(self.out, mixed.transpose(1, 2).flatten(2))
        normal = self.norm2(states).to(self.fc1.weight.dtype)
        hidden = product(self.fc1, normal, swish=self.activation is None)
        if self.activation is not None:
            hidden = self.activation(hidden)
        result: Tensor = states + product(self.fc2, hidden)
        return result


class ClipImageTower(nn.Module):
    """Pixels of 8 bits (N, H, W, 3) to embeddings (N, D); it takes its parts from a network."""

    def __init__(self, network: Any, recipe: Recipe, dtype: torch.dtype) -> None:
        super().__init__()
        vision = network.vision_model
        self.normalise = Normalisation(recipe)
        self.embeddings = vision.embeddings
        self.first, self.last = vision.pre_layrnorm, vision.post_layernorm
        self.blocks = nn.ModuleList([Block(layer, dtype) for layer in vision.encoder.layers])
        self.projection = network.visual_projection
        vision.encoder = None

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embeddings (N, D)."""
        normal = self.normalise(pixels).permute(0, 3, 1, 2)  # (N, 3, H, W), in memory as it was
        states = self.first(self.embeddings(normal))  # (N, T, W)
        *blocks, last = self.blocks
        for block in blocks:
            states = block(states)
        start = torch.zeros(states.shape[0], 1, dtype=torch.int64, device=states.device)
        pooled: Tensor = self.projection(self.last(last(states, at=start)[:, 0]))
        return pooled


class ClipTextTower(nn.Module):
    """Rows of trees of tokens to embeddings (M, D); it takes its parts from a network."""

    def __init__(self, network: Any, dtype: torch.dtype) -> None:
        super().__init__()
        text = network.text_model
        self.embeddings, self.last = text.embeddings, text.final_layer_norm
        self.blocks = nn.ModuleList([Block(layer, dtype) for layer in text.encoder.layers])
        self.dtype = dtype
        self.projection = network.text_projection
        self.end: int = text.eos_token_id
        text.encoder = None

    def forward(self, ids: Tensor, positions: Tensor, mask: Tensor, at: Tensor, which: Tensor) -> Tensor:
        """Return the embeddings (M, D) of the texts that end `at` (B, E) in rows; `which` (M,) of B * E."""
        table, places = self.embeddings.token_embedding, self.embeddings.position_embedding
        states = table(ids) + places(positions)  # (B, T, W)
        *blocks, last = self.blocks
        # Added to the scores of attention: made once for all layers.
        added = torch.zeros_like(mask, dtype=self.dtype).masked_fill(~mask, float("-inf"))
        added = added[:, None]  # (B, 1, T, T)
        for block in blocks:
            states = block(states, added)
        of_ends = added.gather(2, at[:, None, :, None].expand(-1, -1, -1, added.shape[-1]))  # (B, 1, E, T)
        ends = last(states, of_ends, at).flatten(0, 1)[which]  # (M, W)
        pooled: Tensor = self.projection(self.last(ends))
        return pooled


CLIP_TOWERS: Final = (ClipTextTower, ClipImageTower)


@dataclass(frozen=True, slots=True)
class Towers:
    """A model's two encoders on their device, and the factor of its cosines."""

    logit_scale: float
    texts: nn.Module
    images: nn.Module

    @classmethod
    def of(cls, network: Any, recipe: Recipe | None, device: str, dtype: torch.dtype) -> "Towers":
        """Return the towers of a network, which is used up; CLIP's with products in `dtype`."""
        scale = logit_scale(network) or 0.0  # a checkpoint's network has one
        texts: nn.Module
        images: nn.Module
        if is_clip(network):
            images = ClipImageTower(network, recipe, dtype) if recipe else WholeNetwork(network)
            texts = ClipTextTower(network, dtype)
        else:
            texts, images = (
                TextTower(network),
                ImageTower(network, recipe) if recipe else WholeNetwork(network),
            )
        if device.startswith("cuda"):
            images = channels_last(images)
        return cls(scale, texts.to(device), images.to(device))


def channels_last(tower: nn.Module) -> nn.Module:
    """Return an image tower with the weights of its convolutions in the order of the pixels, (N, H, W, C).

    Tensor cores read both in this order; in any other, each convolution reorders its input and output.
    """
    for part in tower.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return tower


def is_clip(network: Any) -> bool:
    """Whether a network is CLIP's own architecture, whose towers can be taken apart."""
    return getattr(network.config, "model_type", "") == "clip" and type(network).__name__ == "CLIPModel"
