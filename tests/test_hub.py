"""Models by id: from the hub's cache on disk, without a network, and with a hub that is not there."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Encoder
from fieldmarks.errors import ModelError
from fieldmarks.hub import loaded_once, model_id

COMMIT, CONVERTED = "a" * 40, "b" * 40
SCRIPT = """
import sys
from fieldmarks.classification.embedder import Encoder
from fieldmarks.errors import ModelError
for name in sys.argv[1:]:
    encoder = Encoder(name, device="cpu", dtype="float32", engine="torch")
    try:
        print(encoder.encode_texts(["fur"]).shape[1], encoder.fingerprint)
    except ModelError as error:
        print(error)
"""


def _hub_cache(home: Path, name: str, model: Path, *, weights_beside: bool) -> None:
    """Lay a model out as huggingface_hub does; `weights_beside` puts the safetensors under another commit."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(model, snapshot)
    if weights_beside:
        (repository / "snapshots" / CONVERTED).mkdir()
        (snapshot / "model.safetensors").rename(repository / "snapshots" / CONVERTED / "model.safetensors")
        (snapshot / "pytorch_model.bin").write_bytes(b"a pickle that nobody opens")


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_an_id_that_was_downloaded_once_asks_nobody(
    tmp_path: Path, tiny_clip: Path, environment: dict[str, str]
) -> None:
    """Of one that was not, it is told in one line that nobody can be asked."""
    _hub_cache(tmp_path, "some/clip", tiny_clip, weights_beside=False)
    _hub_cache(tmp_path, "converted/clip", tiny_clip, weights_beside=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "some/clip", "converted/clip", "absent/clip"],
        env=clean | {"HF_HOME": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    *found, told = done.stdout.splitlines()
    assert found == [f"16 {name}/clip@{COMMIT} pil float32 torch" for name in ("some", "converted")]
    assert told.startswith(
        "absent/clip is neither a local folder nor in the Hugging Face cache, and could not be downloaded ("
    )
    assert told.endswith("): pass a model's folder, or connect once to download it")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
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
    wrapped, plain = (
        Encoder(path, device="cpu", dtype="float32", engine="torch")
        for path in (_sentence_transformer(tmp_path, tiny_clip), tiny_clip)
    )
    assert (wrapped.encode_texts(["fur"]) == plain.encode_texts(["fur"])).all()
    assert wrapped.fingerprint == plain.fingerprint


def _sentence_transformer(folder: Path, model: Path) -> Path:
    """Lay a CLIP model out as sentence-transformers does."""
    shutil.copytree(model, folder / "0_CLIPModel")
    (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]'
    )
    (folder / "config_sentence_transformers.json").write_text('{"__version__": {"transformers": "4.6.1"}}')
    (folder / "README.md").write_text("---\nlibrary_name: sentence-transformers\n---\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_folder_of_sentence_transformers_classifies(tmp_path: Path, demo_clip: Path, engine: Any) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "torch")
    pictures = [Image.effect_mandelbrot((70, 60), (-2, -1.5, right, 1.5), 50) for right in (0.5, 1.0)]
    folder = _sentence_transformer(tmp_path, demo_clip)
    wrapped, plain = (
        Classifier(
            ["fur", "big eyes", "a long tail"],
            clip=Encoder(path, device="cpu", dtype="float32", engine=engine),
        ).predict([picture.convert("RGB") for picture in pictures])
        for path in (folder, demo_clip)
    )
    assert [prediction.scores for prediction in wrapped] == [prediction.scores for prediction in plain]


@pytest.fixture
def sharded(tiny_clip: Path, tmp_path: Path) -> Path:
    """A model whose index names its weights in a subfolder."""
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    (folder / "weights").mkdir()
    (folder / "model.safetensors").rename(folder / "weights" / "all.safetensors")
    _point_to(folder, "weights/all.safetensors")
    return folder


def _point_to(folder: Path, name: str) -> None:
    tensors = load_file(next((folder / "weights").iterdir()))
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _encoder(folder: Path) -> Encoder:
    return Encoder(folder, device="cpu", dtype="float32", engine="torch")


def test_weights_in_a_subfolder_are_loaded_and_counted(sharded: Path, tiny_clip: Path) -> None:
    texts, before = _encoder(sharded).encode_texts(["fur"]), _encoder(sharded).fingerprint
    assert (texts == _encoder(tiny_clip).encode_texts(["fur"])).all()
    assert before is not None
    assert " weights/all.safetensors:" in before
    path = sharded / "weights" / "all.safetensors"
    weights = load_file(path)
    save_file({name: tensor * 2 for name, tensor in weights.items()}, path, metadata={"format": "pt"})
    assert _encoder(sharded).fingerprint != before


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "additional_chat_templates/tool.jinja", "vocab.bpe", "spiece.model"]
)
def test_every_file_that_may_be_loaded_counts(tiny_clip: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    fingerprints = {_encoder(folder).fingerprint}
    for text in ("one", "two"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        fingerprints.add(_encoder(folder).fingerprint)
    (folder / "README.md").write_text("for people")
    (folder / "pytorch_model.bin").write_text("never opened")
    assert len(fingerprints | {_encoder(folder).fingerprint}) == 3


@pytest.mark.parametrize("name", ["../outside.safetensors", "{outside}", "weights/../../a", "", "link"])
def test_an_index_that_leaves_its_folder_is_refused(sharded: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside.safetensors"
    shutil.copy(sharded / "weights" / "all.safetensors", outside)
    (sharded / "link").symlink_to(outside)
    name = name.format(outside=outside)
    _point_to(sharded, name)
    for ask in (lambda: _encoder(sharded).fingerprint, lambda: _encoder(sharded).encode_texts(["fur"])):
        with pytest.raises(ModelError) as caught:
            ask()
        assert str(caught.value) == (
            f"{sharded / 'model.safetensors.index.json'} names a file outside its folder, {name!r}:"
            " it is not opened; put all weights into the model's folder"
        )


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": []}', "[" * 100_000])
def test_a_damaged_index_is_an_error(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match="download the model again"):
        _ = _encoder(sharded).fingerprint


def test_an_index_of_weights_that_are_missing(sharded: Path) -> None:
    _point_to(sharded, "weights/none.safetensors")
    with pytest.raises(ModelError) as caught:
        _encoder(sharded).encode_texts(["fur"])
    assert str(caught.value) == (
        f"{sharded}/weights/none.safetensors, which model.safetensors.index.json names, is missing:"
        " download the model again"
    )


def test_an_index_without_the_metadata_that_transformers_reads(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text('{"weight_map": {"a": "weights/all.safetensors"}}')
    with pytest.raises(ModelError, match=r"cannot be read \(no entry 'metadata'\): download the model again"):
        _encoder(sharded).encode_texts(["fur"])


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_says_what_to_run(tiny_clip: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelError) as caught:
        _encoder(folder).encode_texts(["fur"])
    assert str(caught.value) == (
        f"{folder / name} is a pointer of Git LFS, not the file itself: run `git lfs pull` in {folder}"
    )


def test_links_within_the_hubs_cache_are_followed(sharded: Path, tmp_path: Path) -> None:
    """A snapshot named by its folder: its files are links to the model's blobs, two folders above."""
    repository = tmp_path / "models--some--clip"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir(parents=True)
    shutil.copytree(sharded, snapshot)
    weights = snapshot / "weights" / "all.safetensors"
    weights.rename(repository / "blobs" / "0123")
    weights.symlink_to("../../../blobs/0123")
    assert (_encoder(snapshot).encode_texts(["fur"]) == _encoder(sharded).encode_texts(["fur"])).all()
    (tmp_path / "blobs").mkdir()
    shutil.copy(repository / "blobs" / "0123", tmp_path / "blobs" / "0123")
    weights.unlink()
    weights.symlink_to(tmp_path / "blobs" / "0123")
    with pytest.raises(ModelError, match="names a file outside its folder"):
        _encoder(snapshot).encode_texts(["fur"])


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


def test_a_torchvision_of_another_torch_is_named(tmp_path: Path, demo_clip: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(demo_clip)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "torchvision does not go with the torch of this environment"
        " (operator torchvision::nms does not exist):"
        " install the version that does, or uninstall it\n"
    )
