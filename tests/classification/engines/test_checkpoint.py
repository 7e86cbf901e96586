"""Configurations that are broken or mean harm: one ModelError each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fieldmarks.classification.embedder import Encoder
from fieldmarks.errors import ModelError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(demo_clip: Path, tmp_path: Path) -> Path:
    """A model that a test may spoil."""
    return Path(shutil.copytree(demo_clip, tmp_path / "model"))


def _changed(file: Path, change: Change) -> None:
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize("side", [4097, 20_000, 10**400])
def test_pictures_larger_than_any_model_reads(folder: Path, side: int) -> None:
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": 64, "width": 64}}
    _changed(folder / "processor_config.json", lambda item: item["image_processor"].update(size))
    encoder = Encoder(folder, device="cpu", engine="torch")
    with pytest.raises(ModelError, match="scales images to more than 4096 pixels a side"):
        encoder.prepare(Image.new("RGB", (64, 64)))


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [-5, 2])
def test_a_length_without_room_for_text(folder: Path, tokens: int) -> None:
    _changed(folder / "tokenizer_config.json", lambda item: item.update(model_max_length=tokens))
    with pytest.raises(ModelError, match=f"reads no text: its configuration allows {tokens} tokens"):
        Encoder(folder, device="cpu", engine="torch").encode_texts(["fur"])


def test_a_configuration_that_nests_without_end(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP-like model"):
        Encoder(folder, device="cpu").encode_texts(["fur"])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "torch", "openvino"])
@pytest.mark.parametrize(
    ("value", "defect"),
    [
        (0.0, "that are all zeros: its weights are missing or damaged, download it again"),
        (float("nan"), "with NaN or infinity: download it again"),
    ],
)
def test_weights_that_compute_nothing(folder: Path, engine: Any, value: float, defect: str) -> None:
    """Neither texts nor images get an embedding by weights that are all zeros, or no numbers."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    weights = load_file(folder / "model.safetensors")
    spoiled = {name: torch.full_like(weight, value) for name, weight in weights.items()}
    save_file(spoiled, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = Encoder(folder, device="cpu", dtype="float32", engine=engine)
    with pytest.raises(ModelError) as caught:
        encoder.encode_texts(["fur"])
    assert str(caught.value) == f"{folder} gives embeddings {defect}"
    with pytest.raises(ModelError) as caught:
        encoder.encode_images([encoder.prepare(Image.new("RGB", (64, 64), "red"))])
    assert str(caught.value) == f"{folder} gives embeddings {defect}"


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ({"eos_token_id": 5}, "the model reads a text at the token 5, which the tokenizer does not write"),
        ({"vocab_size": 1011}, "the tokenizer gives the token 1011, and the model has 1,011"),
    ],
)
def test_a_tokenizer_of_another_model(folder: Path, setting: dict[str, int], what: str) -> None:
    """Without the end token, CLIP would give all texts the embedding of their beginning."""
    _changed(folder / "config.json", lambda item: item["text_config"].update(setting))
    if known := setting.get("vocab_size"):
        weights, name = (
            load_file(folder / "model.safetensors"),
            "text_model.embeddings.token_embedding.weight",
        )
        weights[name] = weights[name][:known].clone()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        Encoder(folder, device="cpu", dtype="float32", engine="torch").encode_texts(["fur"])
    assert str(caught.value) == (f"{folder} has the tokenizer of another model ({what}): download it again")


def test_the_end_token_of_old_configurations(folder: Path) -> None:
    """The number 2 stands for the highest token, as in OpenAI's first configurations."""
    before = Encoder(folder, device="cpu", dtype="float32", engine="torch").encode_texts(["fur"])
    _changed(folder / "config.json", lambda item: item["text_config"].update(eos_token_id=2))
    after = Encoder(folder, device="cpu", dtype="float32", engine="torch").encode_texts(["fur"])
    assert (before == after).all()


@pytest.mark.parametrize("scale", [float("nan"), 1e5])
def test_a_logit_scale_that_is_no_number(folder: Path, scale: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = torch.tensor(scale)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="logit scale that is NaN or infinite"):
        assert Encoder(folder, device="cpu", engine="torch").logit_scale
