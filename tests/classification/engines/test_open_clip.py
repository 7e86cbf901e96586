"""Checkpoints in open_clip's layout: read as transformers' CLIP, or refused in words that help."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.engines.checkpoint import Checkpoint
from fieldmarks.classification.engines.open_clip import WEIGHTS, renamed
from fieldmarks.errors import ModelError
from fieldmarks.hub import OPEN_CLIP

STORE = {"red": ["a red square"], "blue": ["a blue square", "blue"]}
VISION = {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 4, "layers": 2}


def _theirs(network: CLIPModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield transformers' tensors under open_clip's names: what `renamed` takes back."""
    tensors = network.state_dict()
    for name, tensor in tensors.items():
        tower, _, rest = name.partition(".")
        prefix = "visual." if tower == "vision_model" else ""
        if name == "logit_scale":
            yield name, tensor
        elif name == "visual_projection.weight":
            yield "visual.proj", tensor.T
        elif name == "text_projection.weight":
            yield "text_projection", tensor.T
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", rest):
            number, part, kind = match.groups()
            block = f"{prefix}transformer.resblocks.{number}"
            if part == "self_attn.q_proj":
                parts = [tensors[name.replace("q_proj", other)] for other in ("q_proj", "k_proj", "v_proj")]
                yield f"{block}.attn.in_proj_{kind}", torch.cat(parts)
            elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
                part = {
                    "self_attn.out_proj": "attn.out_proj",
                    "layer_norm1": "ln_1",
                    "layer_norm2": "ln_2",
                    "mlp.fc1": "mlp.c_fc",
                    "mlp.fc2": "mlp.c_proj",
                }[part]
                yield f"{block}.{part}.{kind}", tensor
        else:
            yield (
                {
                    "vision_model.embeddings.class_embedding": "visual.class_embedding",
                    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
                    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
                    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
                    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
                    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
                    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
                    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
                    "text_model.embeddings.position_embedding.weight": "positional_embedding",
                    "text_model.final_layer_norm.weight": "ln_final.weight",
                    "text_model.final_layer_norm.bias": "ln_final.bias",
                }[name],
                tensor,
            )


def _configured(
    folder: Path, *, top: Any = None, vision: Any = None, text: Any = None, images: Any = None
) -> None:
    model = {"embed_dim": 16, "vision_cfg": VISION | (vision or {}), "text_cfg": TEXT | (text or {})}
    preprocessing = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"} | (images or {})
    whole = {"model_cfg": model | (top or {}), "preprocess_cfg": preprocessing}
    (folder / OPEN_CLIP).write_text(json.dumps(whole), "utf-8")


@pytest.fixture
def checkpoint(tmp_path: Path, check_data: Path) -> Path:
    """A tiny random checkpoint in open_clip's layout, with CLIP's tokenizer."""
    folder = tmp_path / "open_clip"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(check_data / "clip-tokenizer" / name, folder / name)
    _configured(folder)
    torch.manual_seed(0)
    network = CLIPModel(Checkpoint(str(folder)).config)
    for parameter in network.parameters():  # transformers begins biases with zeros
        torch.nn.init.normal_(parameter, std=0.1)
    save_file({name: tensor.contiguous() for name, tensor in _theirs(network)}, folder / WEIGHTS)
    same = tmp_path / "transformers"
    network.save_pretrained(same)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, same / name)
    processor = json.loads((check_data / "clip-tokenizer" / "preprocessor_config.json").read_text("utf-8"))
    processor |= {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (same / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder


def test_a_checkpoint_computes_what_the_same_tensors_compute_in_transformers(checkpoint: Path) -> None:
    theirs = CLIPModel.from_pretrained(checkpoint.parent / "transformers")
    ours = Checkpoint(str(checkpoint)).network(torch.float32)
    ids = torch.tensor([[49406, 320, 1125, 49407], [49406, 320, 49407, 49407]])
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(
            ours.get_text_features(input_ids=ids).pooler_output,
            theirs.get_text_features(input_ids=ids).pooler_output,
        )
        assert torch.equal(
            ours.get_image_features(pixel_values=pixels).pooler_output,
            theirs.get_image_features(pixel_values=pixels).pooler_output,
        )


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
def test_it_classifies_by_folder_on_each_engine(checkpoint: Path, engine: Any) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (44, 55, 3), np.uint8))  # no half pixel
    transformers = checkpoint.parent / "transformers"
    expected = Classifier(STORE, clip=str(transformers), engine="torch", dtype="float32").predict(image)
    found = Classifier(STORE, clip=str(checkpoint), engine=engine, dtype="float32").predict(image)
    assert [score.name for score in found.scores] == [score.name for score in expected.scores]
    np.testing.assert_allclose(
        [score.logit for score in found.scores], [score.logit for score in expected.scores], atol=1e-4
    )


def test_the_preprocessing_is_that_of_the_configuration(checkpoint: Path) -> None:
    recipe = Checkpoint(str(checkpoint)).recipe
    assert recipe is not None
    assert (recipe.size, recipe.crop, recipe.mean) == (32, (32, 32), (0.5, 0.5, 0.5))
    _configured(checkpoint, images={"resize_mode": "squash", "interpolation": "bilinear", "size": [32, 32]})
    recipe = Checkpoint(str(checkpoint)).recipe
    assert recipe is not None
    assert (recipe.size, recipe.crop, recipe.resample) == ((32, 32), None, 2)


def _all_of(checkpoint: Checkpoint) -> tuple[Any, ...]:
    return checkpoint.config, checkpoint.recipe


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vision", {"timm_model_name": "vit_pe_core"}, "is an open_clip model with a timm image tower"),
        ("vision", {"layers": [3, 4, 6, 3]}, "is an open_clip model with a ResNet"),
        ("vision", {"attentional_pool": True}, "with attentional pooling"),
        ("vision", {"no_ln_pre": True}, "with no_ln_pre True"),
        ("vision", {"qk_norm": True}, "with qk_norm True"),
        ("vision", {"a_new_setting": 3}, "with a_new_setting 3"),
        ("vision", {"width": 0}, "width is 0: expected 1 to 16,384"),
        ("vision", {"layers": 10**9}, "layers is 1000000000: expected 1 to 1,000"),
        ("vision", {"image_size": [32, 48]}, r"with image_size \[32, 48\]"),
        ("text", {"hf_model_name": "roberta-base"}, "with a custom text tower"),
        ("text", {"no_causal_mask": True}, "with no_causal_mask True"),
        ("text", {"pool_type": "last"}, "with pool_type 'last'"),
        ("text", {"tokenizer_kwargs": {"clean": "canonicalize"}}, "with tokenizer_kwargs"),
        ("top", {"custom_text": True}, "with a custom text tower"),
        ("top", {"multimodal_cfg": {"width": 8}}, "with a CoCa decoder"),
        ("top", {"init_logit_bias": -10}, "with the bias of SigLIP"),
        ("top", {"vision_cfg": None}, "expected an object 'vision_cfg'"),
        ("images", {"interpolation": "nearest"}, "with interpolation 'nearest'"),
        ("images", {"resize_mode": "longest"}, "with resize_mode 'longest'"),
        ("images", {"std": [0, 0, 0]}, "std: expected three numbers above 0"),
        ("images", {"std": [-1, 1, 1]}, "std: expected three numbers above 0"),
        ("images", {"std": [float("inf"), 1, 1]}, "std: expected three numbers above 0"),
        ("images", {"mean": [10**400, 0, 0]}, "mean: expected three numbers"),
        ("images", {"mean": [float("nan"), 0, 0]}, "mean: expected three numbers"),
        ("images", {"interpolation": ["bicubic"]}, r"with interpolation \['bicubic'\]"),
        ("vision", {"head_width": 64}, "a width of 32 cannot be shared by 0 heads"),
        ("text", {"heads": 5}, "a width of 24 cannot be shared by 5 heads"),
    ],
)
def test_what_is_not_clip_is_refused_by_name(tmp_path: Path, part: str, change: Any, message: str) -> None:
    _configured(tmp_path, **{part: change})
    with pytest.raises(ModelError, match=message):
        _all_of(Checkpoint(str(tmp_path)))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"model_cfg": 3}'])
def test_a_damaged_configuration_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / OPEN_CLIP).write_text(text)
    with pytest.raises(ModelError, match=OPEN_CLIP):
        assert Checkpoint(str(tmp_path)).config


def test_weights_that_do_not_fit_are_an_error(checkpoint: Path) -> None:
    _configured(checkpoint, vision={"layers": 3})
    with pytest.raises(ModelError, match="its weights do not match its configuration"):
        Checkpoint(str(checkpoint)).network(torch.float32)
    (checkpoint / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=f"{WEIGHTS} cannot be read"):
        Checkpoint(str(checkpoint)).network(torch.float32)


def test_a_projection_of_another_shape_is_an_error_without_warnings(checkpoint: Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in load_file(checkpoint / WEIGHTS).items()}
    save_file(weights | {"visual.proj": torch.zeros(2, 3, 4)}, checkpoint / WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ModelError, match="do not match its configuration"):
            Checkpoint(str(checkpoint)).network(torch.float32)


def test_a_pointer_of_git_lfs_says_what_to_run(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelError) as caught:
        Checkpoint(str(checkpoint)).network(torch.float32)
    assert str(caught.value) == (
        f"{checkpoint / WEIGHTS} is a pointer of Git LFS, not the file itself: run `git lfs pull` in"
        f" {checkpoint}"
    )


@pytest.mark.slow
def test_pickled_weights_are_refused_with_a_command_that_converts_them(checkpoint: Path) -> None:
    network: Any = Checkpoint(str(checkpoint)).network(torch.float32)
    expected = (checkpoint / WEIGHTS).read_bytes()
    (checkpoint / WEIGHTS).unlink()
    torch.save(dict(_theirs(network)), checkpoint / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights only") as caught:
        Checkpoint(str(checkpoint)).network(torch.float32)
    code = str(caught.value).partition('python -c "')[2].rpartition('"')[0]
    subprocess.run([sys.executable, "-c", code], cwd=checkpoint, check=True)
    Checkpoint(str(checkpoint)).network(torch.float32)
    assert len((checkpoint / WEIGHTS).read_bytes()) == len(expected)


@pytest.mark.slow
def test_a_hub_id_that_was_downloaded_once_is_read_from_the_cache(checkpoint: Path, tmp_path: Path) -> None:
    commit = "a" * 40
    repository = tmp_path / "hub" / "models--some--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(checkpoint, repository / "snapshots" / commit)
    script = (
        "import sys; from fieldmarks.classification.embedder import Encoder\n"
        "for name in sys.argv[1:]:\n"
        "    encoder = Encoder(name, device='cpu', dtype='float32', engine='torch')\n"
        "    print(encoder.encode_texts(['fur']).shape[1], encoder.fingerprint)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, "some/clip", "hf-hub:some/clip"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"(16 some/clip@{commit} .*\n){{2}}", shown.stdout)


def test_an_unknown_tensor_keeps_its_name_and_the_causal_mask_goes() -> None:
    tensor = torch.zeros(2)
    assert [name for name, _ in renamed("visual.odd", tensor)] == ["visual.odd"]
    assert list(renamed("attn_mask", tensor)) == []


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FIELDMARKS_OPEN_CLIP"), reason="FIELDMARKS_OPEN_CLIP is not set")
def test_open_clip_itself_computes_the_same() -> None:
    """FIELDMARKS_OPEN_CLIP is a Python that can import open_clip, beside what fieldmarks needs."""
    python = os.environ["FIELDMARKS_OPEN_CLIP"]
    script = Path(__file__).parents[2] / "benchmarks" / "open_clip_parity.py"
    shown = subprocess.run([python, str(script)], capture_output=True, text=True, check=True)
    errors = [float(line.split()[-1]) for line in shown.stdout.splitlines()]
    assert len(errors) == 6
    assert max(errors) <= 1e-6
