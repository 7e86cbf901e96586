"""The model: the seeds' own computations, every architecture, and folders that are no models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.engines import by_length
from fieldmarks.classification.scoring import cosines
from fieldmarks.errors import ModelError

TEXTS = ["big eyes", "a long tail with a white tip", "fur"]


@pytest.fixture
def copied(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_clip, tmp_path / "model"))


def _pictures() -> list[Image.Image]:
    areas = [(-2, -1.5, 1, 1.5), (-1, -1, 0, 0), (-0.5, 0, 0.5, 1)]
    return [Image.effect_mandelbrot((40, 50), area, 50).convert("RGB") for area in areas]


@pytest.fixture(params=["torch", "openvino"])
def exact(request: pytest.FixtureRequest, tiny_clip: Path) -> Encoder:
    """The tiny model in float32 by each engine."""
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return Encoder(tiny_clip, device="cpu", dtype="float32", engine=request.param)


def test_embeddings_are_the_models_own(exact: Encoder, tiny_clip: Path) -> None:
    model = CLIPModel.from_pretrained(tiny_clip)
    inputs = AutoTokenizer.from_pretrained(tiny_clip)(TEXTS, padding=True, return_tensors="pt")
    processor = AutoImageProcessor.from_pretrained(tiny_clip)  # type: ignore[no-untyped-call]
    pixels = processor(images=_pictures(), return_tensors="pt")
    with torch.no_grad():
        states = model.text_model(**inputs).pooler_output
        expected = model(**inputs, **pixels)
        texts = model.text_projection(states)
    assert_allclose(exact.encode_texts(TEXTS), texts, rtol=0, atol=1e-5)
    ours = exact.encode_images([exact.prepare(picture) for picture in _pictures()])
    unit = ours / np.linalg.norm(ours, axis=-1, keepdims=True)
    assert_allclose(unit, expected.image_embeds, rtol=0, atol=1e-5)
    assert exact.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert ours.shape == (3, 16)
    assert ours.dtype == np.float32


def test_a_batch_is_its_pictures_one_by_one(exact: Encoder) -> None:
    prepared = [exact.prepare(picture) for picture in _pictures()]
    single = np.concatenate([exact.encode_images([item]) for item in prepared])
    assert_allclose(exact.encode_images(prepared), single, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_texts_in_passes_are_the_texts_one_by_one(exact: Encoder) -> None:
    texts = ["x" * (7 * number % 100) + str(number) for number in range(40)]
    single = np.concatenate([exact.encode_texts([text]) for text in texts])
    assert_allclose(exact.encode_texts(texts), single, rtol=0, atol=1e-5)


def test_long_texts_are_cut(exact: Encoder) -> None:
    assert exact.max_tokens == 77
    assert exact.token_counts(["abc", "x" * 100]) == [5, 102]
    cut, same = exact.encode_texts(["x" * 100, "x" * 500])
    assert_allclose(cut, same, rtol=1.3e-6, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 77)), budget=st.integers(1, 200))
def test_passes_have_every_text_once_and_keep_the_budget(lengths: list[int], budget: int) -> None:
    passes = list(by_length(lengths, budget))
    assert sorted(row for rows in passes for row in rows) == list(range(len(lengths)))
    ordered = [lengths[row] for rows in passes for row in rows]
    assert ordered == sorted(lengths)
    assert all(len(rows) == 1 or len(rows) * lengths[rows[-1]] <= budget for rows in passes)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close(tiny_clip: Path, dtype: Any) -> None:
    exact, rough = (
        Encoder(tiny_clip, device="cpu", dtype=item, engine="torch") for item in ("float32", dtype)
    )
    picture = rough.prepare(_pictures()[0])
    assert cosines(exact.encode_images([picture]), rough.encode_images([picture])).item() > 0.9999
    assert rough.encode_texts(TEXTS).dtype == np.float32


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _other_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def _unknown_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "no-such-thing"}')


def _remote_code(folder: Path) -> None:
    code = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": code}))
    (folder / "evil.py").write_text("raise SystemExit('the model ran its own code')")


def _only_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _missing_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _other_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 24}))


def _endless(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))


def _no_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["text_projection.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _small_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 60
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = weights[name][:60].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_config, "is not a model folder: it has no config.json"),
        (_broken_config, "cannot be loaded as a CLIP-like model: "),
        (_other_model, "is a bert model, not one with CLIP's two encoders"),
        (_unknown_model, "cannot be loaded as a CLIP-like model: "),
        (_remote_code, "cannot be loaded as a CLIP-like model: "),
        (_only_pickle, "has pickled weights only, which may run code and are not opened; convert a "),
        (_cut_weights, "cannot be loaded as a CLIP-like model: "),
        (_missing_weights, "lacks 1 weights (visual_projection.weight…): download it again"),
        (_other_sizes, "has weights whose shapes differ from its configuration: download it again"),
        (_endless, "declares 1,000,000,000 layers; at most 1,000 are loaded: download it again"),
        (_no_numbers, "gives embeddings with NaN or infinity: "),
        (_no_tokenizer, "has no tokenizer: its vocabulary is missing: download the model again"),
        (_small_vocabulary, "has the tokenizer of another model ("),
    ],
)
def test_what_is_no_model(copied: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copied)
    with pytest.raises(ModelError) as caught:
        Encoder(copied, device="cpu").encode_texts(TEXTS)
    assert str(caught.value).startswith(f"{copied} {message}")
    assert "\n" not in str(caught.value)


def test_pictures_need_a_preprocessor(copied: Path) -> None:
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        Encoder(copied, device="cpu").prepare(_pictures()[0])


def test_pictures_that_stay_of_different_sizes(copied: Path) -> None:
    config = json.loads((copied / "preprocessor_config.json").read_text())
    (copied / "preprocessor_config.json").write_text(
        json.dumps(config | {"do_resize": False, "do_center_crop": False})
    )
    encoder = Encoder(copied, device="cpu")
    prepared = [encoder.prepare(picture) for picture in (*_pictures(), Image.new("RGB", (9, 9)))]
    with pytest.raises(ModelError, match="does not scale images to one size"):
        encoder.encode_images(prepared)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder: pass a model's folder, or a Hugging Face id"):
        Encoder(tmp_path / "none", device="cpu").encode_texts(TEXTS)


def test_an_id_offline_and_not_cached() -> None:
    with pytest.raises(ModelError, match=r"^some/clip is neither a local folder nor in the Hugging"):
        Encoder("some/clip", device="cpu").encode_texts(TEXTS)


def test_a_device_that_is_not_there() -> None:
    if not torch.backends.mps.is_available():
        with pytest.raises(ModelError, match="no mps device is available: choose --device cpu or auto"):
            Encoder("some/clip", device="mps")
