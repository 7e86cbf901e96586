"""Checkpoints in open_clip's layout, read as transformers' CLIP.

A folder holds `open_clip_config.json` and `open_clip_model.safetensors`. Where its architecture is a ViT with
CLIP's own text tower, open_clip and transformers compute the same from the same tensors under other names:

    visual.conv1                          vision_model.embeddings.patch_embedding
    visual.proj, text_projection (in, out)   visual_projection, text_projection (out, in)
    …resblocks.3.attn.in_proj (3D, D)     …encoder.layers.3.self_attn.{q,k,v}_proj (D, D) each

A setting that this does not know, or that changes the architecture, is refused by name: nothing is computed
other than what the checkpoint's authors trained. Source: open_clip 3.3, model.py and transformer.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from fieldmarks.choices import DEFAULT_CLIP
from fieldmarks.classification.preprocess import MAX_SIDE, Recipe
from fieldmarks.errors import ModelError
from fieldmarks.hub import MAX_LAYERS, OPEN_CLIP, ModelSource, check_torchvision, lfs_pointer, one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import CLIPConfig

WEIGHTS: Final = "open_clip_model.safetensors"
_MAX_BYTES: Final = 2**20  # of a configuration
_MAX_WIDTH: Final = 2**14
_MAX_COLOUR: Final = 1000  # of mean and std, for colours from 0 to 1
_SERVES: Final = "pass the model's checkpoint for transformers if it has one, or another CLIP model"
_VOCABULARY: Final = ("vocab.json", "merges.txt")
_RESAMPLING: Final = {"bilinear": 2, "bicubic": 3}  # PIL.Image.Resampling
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)  # open_clip's defaults, which are OpenAI's
_STD: Final = (0.26862954, 0.26130258, 0.27577711)

# Settings that mean nothing to inference, or are CLIP's own architecture with these values.
_NEUTRAL_VISION: Final[dict[str, tuple[Any, ...]]] = {
    "ls_init_value": (None,),
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,),
    "pool_type": ("tok",),
    "output_tokens": (False,),
    "act_kwargs": (None, {}),
    "timm_model_name": (None, ""),
}
_NEUTRAL_TEXT: Final[dict[str, tuple[Any, ...]]] = {
    "ls_init_value": (None,),
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "final_ln_after_pool": (False,),
    "pool_type": ("argmax",),
    "proj_bias": (False,),
    "proj_type": ("linear",),
    "output_tokens": (False,),
    "act_kwargs": (None, {}),
    "tokenizer_kwargs": (None, {}),
    "tokenizer_mode": (None, "clip"),
    "hf_tokenizer_name": (None, ""),
    "hf_model_name": (None, ""),
}
_CUSTOM_BLOCK: Final[dict[str, tuple[Any, ...]]] = {
    "block_type": (None, "default"),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads"), (False,)),
    **dict.fromkeys(("scale_attn_inner", "scale_attn", "scale_fc"), (False,)),
}
_SIZES: Final = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs"}
_UNREAD: Final = {  # by inference, or without what the neutral values exclude
    *("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained"),
    *("timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
}
_TEXT_SIZES: Final = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs"}
_PREPROCESSING: Final = {"size", "mean", "std", "interpolation", "resize_mode", "fill_color"}
_TEXT_UNREAD: Final = {"pad_id", "eos_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
_TOP: Final[dict[str, tuple[Any, ...]]] = {
    "custom_text": (False,),
    "multimodal_cfg": (None,),
    "init_logit_bias": (None,),
    "nonscalar_logit_scale": (False,),
}
_WHAT: Final[Mapping[str, str]] = {  # words for the commonest architectures that are not CLIP's
    "timm_model_name": "a timm image tower",
    "multimodal_cfg": "a CoCa decoder",
    "custom_text": "a custom text tower",
    "hf_model_name": "a custom text tower",
    "init_logit_bias": "the bias of SigLIP",
    "attentional_pool": "attentional pooling",
}


class OpenClip:
    """The configuration of a checkpoint in open_clip's layout. Raises ModelError for one that is not CLIP."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.name = source.name
        self.folder = source.fetch(OPEN_CLIP)
        whole = self._read()
        model = whole.get("model_cfg", whole)
        self._model = model if isinstance(model, dict) else {}
        self._vision, self._text = self._part(self._model, "vision_cfg"), self._part(self._model, "text_cfg")
        self._preprocessing = self._part(whole, "preprocess_cfg") if "preprocess_cfg" in whole else {}
        self._check()

    def config(self) -> "CLIPConfig":
        """Return the configuration of the same network in transformers."""
        from transformers import CLIPConfig

        act = "quick_gelu" if self._model.get("quick_gelu", False) else "gelu"
        dim = self._whole(self._model, "embed_dim", None)
        vision, text = self._vision, self._text
        width, text_width = self._whole(vision, "width", 768), self._whole(text, "width", 512)
        head_width = self._whole(vision, "head_width", 64)
        heads, text_heads = width // head_width, self._whole(text, "heads", 8)
        for size, parts in ((width, heads), (text_width, text_heads)):
            if not parts or size % parts:
                raise ModelError(
                    f"{self.folder / OPEN_CLIP}: a width of {size:,} cannot be shared by {parts:,} heads:"
                    " download it again"
                )
        vocabulary = self._whole(text, "vocab_size", 49408, 2**20)
        return CLIPConfig(
            projection_dim=dim,
            vision_config={
                "hidden_size": width,
                "intermediate_size": int(width * self._number(vision, "mlp_ratio", 4.0)),
                "num_hidden_layers": self._whole(vision, "layers", 12, MAX_LAYERS),
                "num_attention_heads": heads,
                "image_size": self._square(vision, "image_size", 224),
                "patch_size": self._square(vision, "patch_size", 16),
                "hidden_act": act,
                "layer_norm_eps": self._epsilon(vision),
                "projection_dim": dim,
            },
            text_config={
                "hidden_size": text_width,
                "intermediate_size": int(text_width * self._number(text, "mlp_ratio", 4.0)),
                "num_hidden_layers": self._whole(text, "layers", 12, MAX_LAYERS),
                "num_attention_heads": text_heads,
                "max_position_embeddings": self._whole(text, "context_length", 77),
                "vocab_size": vocabulary,
                "hidden_act": act,
                "layer_norm_eps": self._epsilon(text),
                "projection_dim": dim,
                "bos_token_id": vocabulary - 2,
                "eos_token_id": vocabulary - 1,  # pooled there: the highest number of CLIP's vocabulary
            },
        )

    def recipe(self) -> Recipe:
        """Return the preprocessing of images."""
        cfg = self._preprocessing
        size = self._square(cfg, "size", self._square(self._vision, "image_size", 224))
        interpolation, mode = cfg.get("interpolation", "bicubic"), cfg.get("resize_mode", "shortest")
        if not isinstance(interpolation, str) or interpolation not in _RESAMPLING:
            raise self._refused(f"interpolation {interpolation!r:.40}")
        if mode not in ("shortest", "squash"):
            raise self._refused(f"resize_mode {mode!r:.40}")
        mean, std = self._triple("mean", _MEAN), self._triple("std", _STD)
        squash = mode == "squash"
        resample = _RESAMPLING[interpolation]
        square = (size, size)
        return Recipe(
            size=square if squash else size,
            crop=None if squash else square,
            resample=resample,
            rescale_factor=1 / 255,
            mean=mean,
            std=std,
            rounds_to_even=True,
        )

    def network(self, dtype: "torch.dtype") -> Any:
        """Load the network with all of its weights, in evaluation mode."""
        check_torchvision()
        import torch
        from safetensors import SafetensorError, safe_open
        from transformers import CLIPModel

        path = self.source.fetch(WEIGHTS) / WEIGHTS
        if not path.is_file():
            raise ModelError(self._without_weights())
        config = self.config()
        with torch.device("meta"):
            network = CLIPModel(config)
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                tensors = {
                    new: tensor.to(dtype)
                    for old in names
                    for new, tensor in renamed(old, file.get_tensor(old))
                }
        except (OSError, SafetensorError) as error:
            pointer = lfs_pointer(self.folder) if self.source.local else None
            raise ModelError(pointer or f"{path} cannot be read: {one_line(error)}") from error
        wanted = network.state_dict()
        problems = [
            *(f"{name} is missing" for name in wanted.keys() - tensors.keys()),
            *(f"{name} is unknown" for name in tensors.keys() - wanted.keys()),
            *(
                f"{name} has the shape {tuple(tensors[name].shape)} for {tuple(wanted[name].shape)}"
                for name in wanted.keys() & tensors.keys()
                if tensors[name].shape != wanted[name].shape
            ),
        ]
        if problems:
            raise ModelError(
                f"{self.name}: its weights do not match its configuration ({min(problems)}, in"
                " transformers' names): download it again"
            )
        network.load_state_dict(tensors, strict=True, assign=True)
        for tower in (network.text_model, network.vision_model):  # numbers of positions, which no file has
            embeddings: Any = tower.embeddings
            count = embeddings.position_embedding.weight.shape[0]
            embeddings.register_buffer("position_ids", torch.arange(count)[None], persistent=False)
        network.train(False)
        return network

    def tokenizer(self) -> Any:
        """Load the tokenizer, which is CLIP's: the folder's own, or else OpenAI's from the hub."""
        from transformers import CLIPTokenizer

        folder = self.source.fetch("tokenizer*.json", *_VOCABULARY, "special_tokens_map.json")
        if (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in _VOCABULARY):
            return self.source.load(CLIPTokenizer)
        try:
            return ModelSource(DEFAULT_CLIP, "CLIP's tokenizer").load(CLIPTokenizer)
        except ModelError as error:
            raise ModelError(
                f"{self.name} has no tokenizer, and that of {DEFAULT_CLIP}, which is the same, could not be"
                f" downloaded: copy its tokenizer.json and tokenizer_config.json to {self.folder}"
            ) from error

    def _without_weights(self) -> str:
        pickle = "open_clip_pytorch_model.bin"
        if not (self.folder / pickle).is_file() and self.source.local:
            return f"{self.name} has no {WEIGHTS}: download it again"
        fetched = "" if self.source.local else f"download {pickle} of {self.name} and, "
        return (
            f"{self.name} has pickled weights only, which may run code and are not opened; {fetched}if you"
            f' trust it, convert it beside its configuration: python -c "import torch;'
            f" from safetensors.torch import save_file; save_file({{name: tensor.contiguous() for name,"
            f" tensor in torch.load('{pickle}', map_location='cpu', weights_only=True).items()}},"
            f" '{WEIGHTS}')\""
        )

    def _read(self) -> dict[str, Any]:
        path = self.folder / OPEN_CLIP
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ModelError(f"{path} is larger than any configuration: download it again")
            whole = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} is not JSON: download it again") from error
        if not isinstance(whole, dict):
            raise ModelError(f"{path}: expected an object: download it again")
        return whole

    def _part(self, whole: Mapping[str, Any], name: str) -> dict[str, Any]:
        part = whole.get(name)
        if not isinstance(part, dict):
            raise ModelError(f"{self.folder / OPEN_CLIP}: expected an object {name!r}: download it again")
        return part

    def _check(self) -> None:
        """Raise ModelError for a setting that makes the network another one than transformers' CLIP."""
        parts = (
            (self._model, _TOP, {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}),
            (self._vision, _NEUTRAL_VISION | _CUSTOM_BLOCK, _SIZES | _UNREAD),
            (self._text, _NEUTRAL_TEXT | _CUSTOM_BLOCK, _TEXT_SIZES | _TEXT_UNREAD),
            (self._preprocessing, {"mode": ("RGB",)}, _PREPROCESSING),
        )
        for part, neutral, read in parts:
            for key, value in part.items():
                if key not in read and (key not in neutral or value not in neutral[key]):
                    raise self._refused(_WHAT.get(key, f"{key} {value!r:.40}"))
        if isinstance(self._vision.get("layers"), list):
            raise self._refused("a ResNet")

    def _refused(self, what: str) -> ModelError:
        return ModelError(
            f"{self.name} is an open_clip model with {what}; only those with CLIP's ViT and"
            f" text tower are supported: {_SERVES}"
        )

    def _whole(self, part: Mapping[str, Any], key: str, default: int | None, most: int = _MAX_WIDTH) -> int:
        value = part.get(key, default)
        if type(value) is not int or not 0 < value <= most:
            raise ModelError(f"{self.folder / OPEN_CLIP}: {key} is {value!r:.40}: expected 1 to {most:,}")
        return value

    def _number(self, part: Mapping[str, Any], key: str, default: float) -> float:
        value = part.get(key, default)
        if type(value) not in (int, float) or not 0 < value <= 100:
            raise ModelError(f"{self.folder / OPEN_CLIP}: {key} is {value!r:.40}: expected a number")
        return float(value)

    def _square(self, part: Mapping[str, Any], key: str, default: int) -> int:
        """Return the side of a square, which open_clip gives as one number or two."""
        value = part.get(key, default)
        side = value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value
        if isinstance(side, list):
            raise self._refused(f"{key} {value!r:.40}")
        return self._whole({key: side}, key, None, MAX_SIDE)

    def _triple(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        match self._preprocessing.get(key, default):
            case [red, green, blue] if all(type(value) in (int, float) for value in (red, green, blue)):
                # so that a number that is none, or of a size beyond all floats, fails too
                least = -_MAX_COLOUR if key == "mean" else 1 / _MAX_COLOUR
                if all(least <= value <= _MAX_COLOUR for value in (red, green, blue)):
                    return float(red), float(green), float(blue)
        above = " above 0" if key == "std" else ""
        raise ModelError(f"{self.folder / OPEN_CLIP}: {key}: expected three numbers{above}")

    def _epsilon(self, part: Mapping[str, Any]) -> float:
        kwargs = part.get("norm_kwargs") or {}
        if not isinstance(kwargs, dict) or kwargs.keys() - {"eps"}:
            raise self._refused(f"norm_kwargs {kwargs!r:.40}")
        return self._number(kwargs, "eps", 1e-5)


_WHOLE_NAMES: Final[Mapping[str, str]] = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_NORMS: Final[Mapping[str, str]] = {
    "visual.ln_pre": "vision_model.pre_layrnorm",  # their spelling
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_BLOCK: Final = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_IN_BLOCK: Final[Mapping[str, str]] = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_PROJECTIONS: Final[Mapping[str, str]] = {
    "visual.proj": "visual_projection",
    "text_projection": "text_projection",
}
_IN_PROJECTION: Final = re.compile(r"((?:visual\.)?transformer\.resblocks\.\d+\.attn\.in_proj)_(weight|bias)")


def renamed(name: str, tensor: "Tensor") -> Iterator[tuple[str, "Tensor"]]:
    """Yield a tensor of open_clip's under its name, or names, in transformers; an unknown one as it is."""
    stem, _, kind = name.rpartition(".")
    if name in _WHOLE_NAMES:
        yield _WHOLE_NAMES[name], tensor
    elif name in _PROJECTIONS and tensor.ndim == 2:
        yield f"{_PROJECTIONS[name]}.weight", tensor.T.contiguous()
    elif stem in _NORMS:
        yield f"{_NORMS[stem]}.{kind}", tensor
    elif match := _IN_PROJECTION.fullmatch(name):
        block = _BLOCK.fullmatch(f"{match[1]}.{match[2]}")
        assert block is not None
        for part, piece in zip("qkv", tensor.chunk(3), strict=False):
            yield f"{_layer(block)}.self_attn.{part}_proj.{match[2]}", piece.contiguous()
    elif (block := _BLOCK.fullmatch(name)) and block[3] in _IN_BLOCK:
        yield f"{_layer(block)}.{_IN_BLOCK[block[3]]}.{block[4]}", tensor
    elif name != "attn_mask":  # the causal mask, which old checkpoints hold
        yield name, tensor


def _layer(block: "re.Match[str]") -> str:
    return f"{'vision' if block[1] else 'text'}_model.encoder.layers.{int(block[2])}"
