"""Engines against torch in float32: embeddings, answers, refusals, damage."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.kit import logged

from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.engines import model_cache
from fieldmarks.classification.engines.checkpoint import has_bfloat16, processor
from fieldmarks.classification.engines.openvino import TOLERANCE, cosine_error
from fieldmarks.classification.scoring import Array
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import demo_species
from fieldmarks.errors import ModelError

pytest.importorskip("openvino")

WAYS = [("openvino", "float32"), ("openvino", "bfloat16"), ("torch", "bfloat16")]
TEXTS = ["fur", "", "big eyes", "three thin legs on each side", *("long tail " * n for n in range(1, 30))]


def _encoder(folder: Path, engine: Any, dtype: Any) -> Encoder:
    return Encoder(folder, device="cpu", engine=engine, dtype=dtype)


def _pictures() -> list[Image.Image]:
    chance = np.random.default_rng(1)
    smooth = [Image.effect_mandelbrot((90, 70 + n), (-2 + n / 9, -1.5, 1, 1.5), 60) for n in range(5)]
    noise = [Image.fromarray(chance.integers(0, 256, (64, 80 + n, 3), np.uint8)) for n in range(3)]
    return [image.convert("RGB") for image in (*smooth, *noise)]


def _embedded(encoder: Encoder, every: int = 1) -> tuple[Array, Array]:
    """Return the embeddings of texts and pictures of all kinds, or of every second or third of them."""
    pixels = [encoder.prepare(picture) for picture in _pictures()[::every]]
    return encoder.encode_texts(TEXTS[::every]), encoder.encode_images(pixels)


def _agree(folder: Path, ways: Sequence[tuple[str, str]], every: int = 1) -> None:
    exact = _embedded(_encoder(folder, "torch", "float32"), every)
    for engine, dtype in ways:
        found = _embedded(_encoder(folder, engine, dtype), every)
        for ours, theirs in zip(found, exact, strict=True):
            assert cosine_error(ours, theirs) <= TOLERANCE[dtype], (engine, dtype)


@pytest.mark.slow
def test_engines_agree(clip: Path) -> None:
    _agree(clip, WAYS)


@pytest.mark.slow
def test_engines_agree_on_a_model_of_true_size(check_data: Path, tmp_path: Path) -> None:
    """A ViT-B/32 of random weights with the real tokenizer."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    folder = Path(shutil.copytree(check_data / "clip-tokenizer", tmp_path / "clip"))
    torch.manual_seed(0)
    ends = {"bos_token_id": 49406, "eos_token_id": 49407}
    CLIPModel(CLIPConfig(text_config=ends)).save_pretrained(folder)
    ways = WAYS if has_bfloat16(processor()) else [WAYS[0], WAYS[2]]  # else OpenVINO computes float32 twice
    _agree(folder, ways, every=4)


@pytest.mark.slow
def test_no_answer_changes_on_the_demos_pictures(demo_clip: Path) -> None:
    species = demo_species()
    pictures = [
        draw(creature, random.Random(f"demo {name} {number}"))
        for name, creature in species.items()
        for number in range(20)
    ]
    assert len(pictures) == 240
    answers = [
        [
            prediction.label
            for prediction in Classifier("demo", clip=_encoder(demo_clip, *way)).predict(pictures)
        ]
        for way in [("torch", "float32"), *WAYS]
    ]
    assert answers[0].count(next(iter(species))) == 20
    assert answers[1:] == [answers[0]] * len(WAYS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of converted models of this test's own."""
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted-2"


@pytest.fixture
def rough(tiny_clip: Path, tmp_path: Path) -> Path:
    """A model that blows rounding errors up, so that bfloat16 is not enough for it."""
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "rough"))
    weights = load_file(folder / "model.safetensors")
    steep = {
        name: 6 * weight if name.endswith("_proj.weight") else weight for name, weight in weights.items()
    }
    save_file(steep, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# Elsewhere OpenVINO computes float32 where bfloat16 is asked for, which agrees with torch.
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(processor()), reason="this processor has no bfloat16 of its own"
)


@pytest.mark.slow
@needs_bfloat16
def test_auto_leaves_what_does_not_agree_to_torch_and_openvino_by_name_refuses_it(
    rough: Path, cache: Path
) -> None:
    conversion = [f"converting {rough} for OpenVINO, once per machine …"]
    for expected in (conversion, []):  # the second time it is known
        encoder = _encoder(rough, "auto", "bfloat16")
        with logged() as messages:
            assert encoder.encode_texts(["fur"]).shape == (1, 16)
        assert encoder.metadata["engine"] == "torch"
        *news, notice = messages
        assert notice == encoder.refusal
        assert notice.startswith(
            f"{rough}: using torch, because OpenVINO cannot run it: its embeddings differ from torch's by "
        )
        assert news == expected
    (folder,) = model_cache.models(cache)
    assert [path.name for path in folder.iterdir()] == ["about.json"]
    with pytest.raises(ModelError, match=f"^{rough} cannot run on OpenVINO: its embeddings differ"):
        _encoder(rough, "openvino", "bfloat16").encode_texts(["fur"])
    assert _encoder(rough, "auto", "float32").metadata["engine"] == "openvino"


def test_openvino_by_name_refuses_other_numbers(tiny_clip: Path) -> None:
    with pytest.raises(ModelError, match="on OpenVINO: it does not support float16"):
        _encoder(tiny_clip, "openvino", "float16").encode_texts(["fur"])
    assert _encoder(tiny_clip, "auto", "float16").metadata["engine"] == "torch"


@pytest.fixture(scope="module")
def whole(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Array, Array]]:
    """A folder of converted models that holds the tiny one, to copy, and what that computes."""
    cache = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, logged() as messages:
        patch.setenv("FIELDMARKS_CACHE", str(cache))
        before = _embedded(_encoder(tiny_clip, "openvino", "float32"))
    assert messages == [f"converting {tiny_clip} for OpenVINO, once per machine …"]
    return cache / "converted-2", before


@pytest.fixture
def converted(whole: tuple[Path, tuple[Array, Array]], cache: Path) -> Path:
    """A copy of that folder, of this test's own."""
    return Path(shutil.copytree(whole[0], cache))


def _turn_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.slow
def test_damage_to_each_file_is_found(converted: Path) -> None:
    (folder,) = model_cache.models(converted)
    names = {path.name for path in folder.iterdir()}
    assert names == {"texts.bin", "texts.xml", "images.bin", "images.xml", "tokenizer.json", "about.json"}

    def is_whole() -> bool:
        metadata = model_cache.read(folder)
        return metadata is not None and model_cache.is_whole(folder, metadata, EmbeddingCache().file_hash)

    for name in names:
        assert is_whole()
        before = (folder / name).read_bytes()
        _turn_a_bit(folder / name)
        assert not is_whole(), name
        (folder / name).write_bytes(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images.bin", "about.json"])
def test_a_damaged_conversion_is_made_again(
    tiny_clip: Path, whole: tuple[Path, tuple[Array, Array]], converted: Path, name: str
) -> None:
    with logged() as messages:
        _embedded(_encoder(tiny_clip, "openvino", "float32"))
    assert messages == [], "the copy is as good as what was converted"
    (folder,) = model_cache.models(converted)
    _turn_a_bit(folder / name)
    with logged() as messages:
        after = _embedded(_encoder(tiny_clip, "openvino", "float32"))
    assert messages == [f"converting {tiny_clip} for OpenVINO, once per machine …"]
    for item, other in zip(whole[1], after, strict=True):
        np.testing.assert_array_equal(item, other)


@pytest.mark.slow
def test_a_changed_model_is_converted_anew(tiny_clip: Path, tmp_path: Path, converted: Path) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    with logged() as messages:
        _encoder(folder, "openvino", "float32").encode_texts(TEXTS)
    assert messages == [], "the same model elsewhere"
    weights = load_file(folder / "model.safetensors")
    weights["text_projection.weight"] *= -1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _agree(folder, [("openvino", "float32")])


@pytest.mark.slow
def test_a_conversion_that_vanishes_is_told_of(tiny_clip: Path, converted: Path) -> None:
    encoder = _encoder(tiny_clip, "openvino", "float32")
    assert encoder.engine_name == "openvino"
    shutil.rmtree(converted)
    with pytest.raises(ModelError, match=f"^{tiny_clip} cannot run on OpenVINO: No such file"):
        encoder.encode_texts(["fur"])


_FULL = """
import resource, signal, sys
from pathlib import Path
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.engines import model_cache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for largest in (50_000, 100_000_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    encoder = Encoder(sys.argv[1], device="cpu", dtype="float32")
    encoder.encode_texts(["fur"])
    print(encoder.engine_name, len(model_cache.models(Path(sys.argv[2]))), *filter(None, [encoder.refusal]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_is_no_verdict(tiny_clip: Path, cache: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tiny_clip), str(cache)]
    full, room = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert full.startswith(f"torch 0 {tiny_clip}: using torch, because OpenVINO cannot run it: ")
    assert room == "openvino 1"


@pytest.mark.slow
def test_a_conversion_that_fails_is_not_tried_again(tiny_clip: Path, tmp_path: Path, cache: Path) -> None:
    """Its tokenizer is written in Python, which serves torch; a conversion has nothing to keep of it."""
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    tokenizer = {"tokenizer_class": "ByT5Tokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 1  # ByT5's, at which the model is to read a text
    (folder / "config.json").write_text(json.dumps(config))
    reason = f"{folder}: using torch, because OpenVINO cannot run it: it cannot be converted: "
    with logged() as messages:
        for _ in range(2):
            encoder = _encoder(folder, "auto", "float32")
            assert encoder.encode_texts(["fur"]).shape == (1, 16)
            assert (encoder.refusal or "").startswith(reason)
    assert messages[0] == f"converting {folder} for OpenVINO, once per machine …"
    assert [message.startswith(reason) for message in messages] == [False, True, True]
    (model,) = model_cache.models(cache)
    about = json.loads((model / "about.json").read_text())["about"]
    about["versions"]["torch"] = "1.0"
    model_cache.drop(model)
    model_cache.keep(model, lambda fresh: about)
    with logged() as messages:
        _encoder(folder, "auto", "float32").encode_texts(["fur"])  # an upgrade is worth a try
    assert messages[0].startswith("converting ")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "chat_template.jinja", "a/weights.bin"])
def test_a_pipe_in_a_models_folder_is_refused(tiny_clip: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "model"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=f"{folder / name} is a pipe or a device; remove it"):
        Embedder(_encoder(folder, "auto", "float32"), cache=EmbeddingCache()).texts(["fur"])


def test_a_cache_that_cannot_be_written_leaves_it_to_torch(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path / "file"))
    encoder = _encoder(tiny_clip, "auto", "float32")
    assert encoder.encode_texts(["fur"]).shape == (1, 16)
    place = tmp_path / "file" / "converted-2"
    assert (encoder.refusal or "").startswith(
        f"{tiny_clip}: using torch, because OpenVINO cannot run it: {place}"
    )


@pytest.mark.slow
def test_nothing_is_sent_and_nothing_written_at_home(tiny_clip: Path, tmp_path: Path) -> None:
    """OpenVINO's statistics begin by writing an identity into the home folder."""
    script = (
        "import sys; from fieldmarks.classification.embedder import Encoder\n"
        "Encoder(sys.argv[1], device='cpu', engine='openvino').encode_texts(['fur'])\n"
        "print(sys.modules.get('openvino_telemetry'))"
    )
    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script, str(tiny_clip)],
        env=environment | {"HOME": str(tmp_path / "home"), "FIELDMARKS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")
    assert list((tmp_path / "home").iterdir()) == []
