"""Data sets of the hub, from a hub on the loopback: what comes is the same, and nothing else is read."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import png
from tests.data.loopback_hub import COMMIT, serve

from fieldmarks.data import open_dataset
from fieldmarks.data.hf import NO_BYTES
from fieldmarks.errors import EvaluationError

datasets = pytest.importorskip("datasets")

LABELS = ["newt", "owl"]
# The library reads its settings once, so that each group of them has a process of its own.
SCRIPT = """
import json, sys
from fieldmarks.data import Example, open_dataset
from fieldmarks.errors import EvaluationError
for line in sys.stdin:
    spec, options = json.loads(line)
    try:
        data = open_dataset(spec, **options)
        found = [[item.image.name, len(item.image.data), item.label] if isinstance(item, Example)
                 else [item.image, item.error] for item in data]
        said = {"labels": data.labels(), "about": data.metadata, "notices": list(data.notices)}
        said["found"] = found
    except EvaluationError as error:
        said = {"error": str(error)}
    print(json.dumps(said), flush=True)
"""


class Asking:
    """A process that opens one data set after the other, and says what it found."""

    def __init__(self, address: str, home: Path, *, offline: bool = False) -> None:
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | settings,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def open(self, spec: str, **options: Any) -> dict[str, Any]:
        """Return what it says of one."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([spec, options]), file=self._process.stdin, flush=True)
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def end(self) -> None:
        """End the process, which said nothing else."""
        assert self._process.communicate(timeout=60) == ("", "")
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library keeps what it downloads."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub with four data sets: good, naming files, a folder of files, and one with a script."""
    repos = tmp_path_factory.mktemp("repos")
    datasets.disable_progress_bars()
    _write([png(n) for n in range(8)], repos / "own" / "good" / "train-00000-of-00001.parquet")
    _write([png(n) for n in range(6)], repos / "own" / "good" / "test-00000-of-00001.parquet")
    secret = repos / "secret.png"
    secret.write_bytes(png(9))
    _write([str(secret), str(secret)], repos / "own" / "naming" / "test.parquet")
    for label in LABELS:
        (repos / "own" / "loose" / "test" / label).mkdir(parents=True)
        (repos / "own" / "loose" / "test" / label / "a.png").write_bytes(png(1))
    _write([png(1)], repos / "own" / "script" / "test.parquet")
    (repos / "own" / "script" / "script.py").write_text(f"open({str(repos / 'ran')!r}, 'w')")
    with serve(repos) as address:
        yield address
    assert not (repos / "ran").exists()


def _write(pictures: list[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [number % 2 for number in range(len(pictures))]
    whole = datasets.Dataset.from_dict({"picture": pictures, "kind": labels})
    whole = whole.cast_column("picture", datasets.Image())
    whole.cast_column("kind", datasets.ClassLabel(names=LABELS)).to_parquet(path)


@pytest.fixture(scope="module")
def online(hub: str, home: Path) -> Iterator[Asking]:
    """A process that reaches the hub."""
    asking = Asking(hub, home)
    yield asking
    asking.end()


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub(online: Asking, streaming: bool) -> None:
    said = online.open("hf:own/good", streaming=streaming)
    assert said["found"] == [[f"test#{n}", len(png(n)), LABELS[n % 2]] for n in range(6)]
    assert said["labels"] == {"newt": 3, "owl": 3}
    assert said["notices"] == ["using the split 'test'; also available: 'train'"]
    assert said["about"] == {
        "spec": "hf:own/good",
        "kind": "hub",
        "config": None,
        "streaming": streaming,
        "fingerprint": COMMIT,
        "split": "test",
        "image_column": "picture",
        "label_column": "kind",
        "limit": None,
    }


@pytest.mark.slow
def test_limits_and_splits(online: Asking) -> None:
    spread = online.open("hf:own/good:default", split="train", limit=2)
    assert [name for name, *_ in spread["found"]] == ["train#3", "train#7"]
    first = online.open("hf:own/good", split="train", limit=2, streaming=True)
    assert [name for name, *_ in first["found"]] == ["train#0", "train#1"]
    assert first["notices"] == ["streaming: using the first 2 images, in the order of the stream"]


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_files_that_a_stranger_names_are_not_read(online: Asking, streaming: bool) -> None:
    said = online.open("hf:own/naming", streaming=streaming)
    assert said["found"] == [[f"test#{n}/secret.png", NO_BYTES] for n in range(2)]


@pytest.mark.slow
def test_pictures_as_files_are_read_from_the_download(online: Asking) -> None:
    expected = [[f"test#{n}/a.png", len(png(1)), label] for n, label in enumerate(LABELS)]
    assert online.open("hf:own/loose")["found"] == expected
    streamed = online.open("hf:own/loose", streaming=True)["found"]
    assert streamed == [[f"test#{n}/a.png", NO_BYTES] for n in range(2)]


@pytest.mark.slow
def test_what_cannot_be_had(online: Asking) -> None:
    cannot = "cannot be read as a data set: "
    messages = {
        "hf:own/none": "hf:own/none: the hub has no such data set, or it is private",
        "hf:own/good:other": f"hf:own/good:other {cannot}BuilderConfig 'other' not found",
        "hf:own/script": f"hf:own/script {cannot}Dataset scripts are no longer supported",
    }
    for spec, message in messages.items():
        assert online.open(spec)["error"].startswith(message)


@pytest.mark.slow
def test_offline_what_was_downloaded_is_used(online: Asking, home: Path) -> None:
    downloaded = online.open("hf:own/good")["found"]
    nowhere = "http://127.0.0.1:9"
    offline = Asking(nowhere, home, offline=True)
    assert offline.open("hf:own/good")["found"] == downloaded
    assert "Couldn't reach" in offline.open("hf:own/other")["error"]
    offline.end()
    unreachable = Asking(nowhere, home)
    assert unreachable.open("hf:own/good")["error"] == (
        "hf:own/good: the hub does not answer ([Errno 111] Connection refused): connect, or set"
        " HF_HUB_OFFLINE=1 to use what was downloaded before"
    )
    unreachable.end()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:../../etc", "is not a data set on the Hugging Face Hub: expected hf:OWNER/NAME or hf:NAME"),
        ("hf:/etc", "is not a data set on the Hugging Face Hub"),
        ("hf:", "is not a data set on the Hugging Face Hub"),
        ("hf:a/b/c", "is not a data set on the Hugging Face Hub"),
        ("hf:parquet", "parquet is a file format: pass the files, or hf:OWNER/NAME"),
        ("hf:own/name", "cannot be read as a data set: Couldn't reach 'own/name' on the Hub"),
    ],
)
def test_names_that_are_none(spec: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        open_dataset(spec)
    assert message in str(caught.value)


def test_a_folder_here_is_not_taken_for_a_data_set_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write([png(1)], tmp_path / "own" / "name" / "test.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EvaluationError, match="Couldn't reach 'own/name' on the Hub"):
        open_dataset("hf:own/name")
