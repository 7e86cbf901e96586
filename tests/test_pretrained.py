"""Models by id: from the hub's cache on disk, without a network, and with a hub that is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMIT, CONVERTED = "a" * 40, "b" * 40
SCRIPT = (
    "import sys; from fieldmarks.classification import Encoder; from fieldmarks.errors import ModelError\n"
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
        "some/clip is no folder here, not in the hub's cache, and cannot be had from the hub ("
    )
    assert told.endswith("): name a model's folder, or connect once to download it")
    assert noise == ""
