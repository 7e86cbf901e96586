"""Models by id: from the hub's cache on disk, without a network, and with a hub that is not there."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fieldmarks.classification.embedder import Encoder
from fieldmarks.errors import ModelError
from fieldmarks.hub import loaded_once, model_id

COMMIT, CONVERTED = "a" * 40, "b" * 40
SCRIPT = (
    "import sys; from fieldmarks.classification.embedder import Encoder\n"
    "from fieldmarks.errors import ModelError\n"
    "encoder = Encoder('some/clip', device='cpu', dtype='float32', engine='torch')\n"
    "try: print(encoder.encode_texts(['fur']).shape[1], encoder.fingerprint)\n"
    "except ModelError as error: print(error)"
)


def _hub_cache(home: Path, model: Path, *, weights_beside: bool) -> None:
    """Lay a model out as huggingface_hub does; `weights_beside` puts the safetensors under another commit."""
    repository = home / "hub" / "models--some--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(model, snapshot)
    if weights_beside:
        (repository / "snapshots" / CONVERTED).mkdir()
        (snapshot / "model.safetensors").rename(repository / "snapshots" / CONVERTED / "model.safetensors")
        (snapshot / "pytorch_model.bin").write_bytes(b"a pickle that nobody opens")


def _run(home: Path, **environment: str) -> tuple[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE"))}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=clean | {"HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return run.stdout.strip(), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("weights_beside", [False, True])
@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_an_id_that_was_downloaded_once_asks_nobody(
    tmp_path: Path, tiny_clip: Path, environment: dict[str, str], weights_beside: bool
) -> None:
    _hub_cache(tmp_path, tiny_clip, weights_beside=weights_beside)
    assert _run(tmp_path, **environment) == (f"16 some/clip@{COMMIT} pil float32 torch", "")


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_asked_once(tmp_path: Path) -> None:
    told, noise = _run(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert told.startswith(
        "some/clip is neither a local folder nor in the Hugging Face cache, and could not be downloaded ("
    )
    assert told.endswith("): pass a model's folder, or connect once to download it")
    assert noise == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["open_clip_config.json", "open_clip_model.safetensors"],
            "is an open_clip checkpoint, which is not rea",
        ),
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            "is a PEFT adapter, which is not a model by itself; ",
        ),
        (
            ["config.json", "adapter_config.json"],
            "is a PEFT adapter, which is not a model by itself; merge it into",
        ),
        (
            ["model_index.json", "unet/config.json"],
            "is a diffusers pipeline, which makes images; pass a checkp",
        ),
        (
            ["modules.json", "1_Pooling/config.json"],
            "is a sentence-transformers model without CLIP's two encod",
        ),
        (
            ["model.Q4_K_M.gguf"],
            "has GGUF weights for llama.cpp; serve a language model with llama-server and",
        ),
        (["onnx/model.onnx"], "has ONNX weights only; pass a checkpoint of the model for transformers"),
        (
            ["ViT-B-32.pt"],
            "has pickled weights only, which may run code and are not opened; pass a checkpoint",
        ),
        (["tf_model.h5"], "has TensorFlow weights only; convert them with transformers 4"),
        (["flax_model.msgpack"], "has Flax weights only; convert them with transformers 4"),
    ],
)
def test_folders_of_other_libraries_are_named(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    encoder = Encoder(str(tmp_path), device="cpu", dtype="float32", engine="torch")
    with pytest.raises(ModelError) as caught:
        encoder.encode_texts(["fur"])
    assert str(caught.value).startswith(f"{tmp_path} {message}")


def test_a_timm_model_and_a_file_of_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet50", "pretrained_cfg": {}}')
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "a.gguf").touch()
    for name, message in (
        (tmp_path, " is a timm model, which reads images"),
        (tmp_path / "a.gguf", " has GGUF wei"),
    ):
        with pytest.raises(ModelError) as caught:
            Encoder(str(name), device="cpu", dtype="float32", engine="torch").encode_texts(["fur"])
        assert str(caught.value).startswith(f"{name}{message}")


def test_weights_in_another_form_beside_a_configuration_are_named(tmp_path: Path, tiny_clip: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").rename(tmp_path / "clip" / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match="has pickled weights only, which may run code and are not opened; conv"
    ):
        Encoder(tmp_path / "clip", device="cpu", dtype="float32", engine="torch").encode_texts(["fur"])


def test_clip_inside_a_folder_of_sentence_transformers_is_read(tmp_path: Path, tiny_clip: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "0_CLIPModel")
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "0_CLIPModel"}]')
    wrapped, plain = (
        Encoder(path, device="cpu", dtype="float32", engine="torch") for path in (tmp_path, tiny_clip)
    )
    assert (wrapped.encode_texts(["fur"]) == plain.encode_texts(["fur"])).all()
    assert wrapped.fingerprint == plain.fingerprint


def test_what_is_loaded_once_is_computed_by_one_thread_while_others_wait() -> None:
    counts = {"now": 0, "most": 0, "all": 0}

    class Parts:
        @loaded_once
        def first(self) -> int:
            counts["now"] += 1
            counts["all"] += 1
            counts["most"] = max(counts["most"], counts["now"])
            time.sleep(0.01)
            counts["now"] -= 1
            return 7

        @loaded_once
        def second(self) -> int:
            return self.first + 1

    parts = [Parts() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: parts[number % 4].second, range(32))) == [8] * 32
    assert counts == {"now": 0, "most": 1, "all": 4}


def test_a_model_is_recorded_by_id_or_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert model_id("models") == model_id(str(tmp_path / "models")) == str(tmp_path / "models")
    assert [model_id(name) for name in ("openai/clip", "none", "")] == ["openai/clip", "none", ""]
