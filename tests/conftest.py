"""Fixtures that several test modules share."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import settings
from numpy.typing import NDArray
from tests import warm
from tests.generation.scripted_server import ScriptedServer
from tests.kit import untimed

ROOT = Path(__file__).resolve().parents[1]

# Nothing here may reach a hub: what a test needs ships with the product or lies in the check data.
os.environ["HF_HUB_OFFLINE"] = "1"

# OpenVINO would send statistics, each from a fork of this process, once a test has asked whether it is there.
# That the product sends none itself is tested in a process of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# How long one example takes says more about the machine's load than about the code. The suite draws the same
# examples each time, so a failure is due to a change; `--hypothesis-profile thorough` draws many new ones.
settings.register_profile("fieldmarks", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("fieldmarks")


def pytest_configure(config: pytest.Config) -> None:
    """Set what the processes of tests inherit: one thread for those of xdist's workers, and Ctrl-C."""
    if getattr(config.option, "numprocesses", None):  # together they take all cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell has it for jobs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def check_data() -> Path:
    """The folder of real data that stays outside the repository; its tests are skipped where it is absent."""
    folder = Path(os.environ.get("FIELDMARKS_CHECK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no check data at {folder}: set FIELDMARKS_CHECK_DATA")
    return folder


@pytest.fixture(scope="session")
def vectors(check_data: Path) -> dict[str, NDArray[Any]]:
    """Embeddings by a true CLIP, by name."""
    with np.load(check_data / "real-clip-embeddings" / "real_clip_vitb32_embeddings.npz") as archive:
        return {key: archive[key] for key in archive.files if key != "cifar_images"}


@pytest.fixture(scope="session")
def _converted_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the models that OpenVINO converted: all tests share it, as converting takes seconds.

    Workers of xdist share it too, as processes of one user do; their temporary folders lie in one.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "converted"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def _user_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of new folders, one for each test: `mktemp` would look through those of all tests before it."""
    parent = tmp_path_factory.mktemp("user-caches")
    return (parent / str(number) for number in count())


@pytest.fixture(autouse=True)
def _own_user_cache(
    _user_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch, _converted_models: Path
) -> None:
    """Keep the user's cache folder out of the tests, and the tests out of it."""
    folder = next(_user_caches)
    folder.mkdir()
    (folder / "converted-2").symlink_to(_converted_models, target_is_directory=True)
    monkeypatch.setenv("FIELDMARKS_CACHE", str(folder))


@pytest.fixture(autouse=True)
def _own_logger() -> Iterator[None]:
    """Take back what a command did to the package's logger, which it takes for its process's own."""
    yield
    logger = logging.getLogger("fieldmarks")
    for handler in logger.handlers:
        handler.close()
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP of random weights, 16 dimensions, 32 x 32 pixels, and a tokenizer of bytes."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    letters = [chr(code if 32 < code < 127 else 256 + code) for code in range(256)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=77
    )
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config=small | ends | {"vocab_size": len(tokens)},
            vision_config=small | {"image_size": 32, "patch_size": 8},
            projection_dim=16,
            initializer_factor=8.0,
        )
    )
    folder = tmp_path_factory.mktemp("tiny-clip")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's temporary folder, as the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A loopback server that answers well until its `script` is replaced."""
    with ScriptedServer() as serving:
        yield serving


class _UntimedRunner(CliRunner):
    """click's runner, whose results' stderr says nothing of how long a command took."""

    def invoke(self, *args: Any, **kwargs: Any) -> Result:
        result = super().invoke(*args, **kwargs)
        result.stderr_bytes = untimed(result.stderr_bytes.decode()).encode()
        return result


@pytest.fixture
def runner() -> CliRunner:
    """click's runner; its results keep stdout and stderr apart, and closing lines do not tell the time."""
    return _UntimedRunner()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the programs `fieldmarks` and `python`, which start warm."""
    with warm.programs(tmp_path_factory.mktemp("bin")) as folder:
        yield folder


@pytest.fixture(scope="session")
def creatures(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `fieldmarks demo` makes. Tests may add files beside it, not in it."""
    folder = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"FIELDMARKS_CACHE": str(folder / ".cache")}
    command = [str(programs / "fieldmarks"), "demo", "--out", str(folder / "creatures")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return folder / "creatures"


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    """The shipped CLIP model's folder."""
    return ROOT / "pipeline/fieldmarks/demo/models/clip"


@pytest.fixture(scope="session")
def demo_lm() -> Path:
    """The shipped language model's folder."""
    return ROOT / "pipeline/fieldmarks/demo/models/lm"
