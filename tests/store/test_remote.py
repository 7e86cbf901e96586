"""Stores of the hub, from a hub on the loopback: read everywhere, changed nowhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.loopback_hub import COMMIT, serve

from fieldmarks.errors import StoreError
from fieldmarks.store import Store
from fieldmarks.store.remote import fetch

PINNED = f"hf:me/frogs@{COMMIT}"
# The hub's library reads its settings once, so that every try has a process of its own.
SCRIPT = """
import sys
from fieldmarks.errors import FieldmarksError
from fieldmarks.store import Store
for name in sys.argv[1:]:
    try:
        store = Store(name)
        print(store.name, store.names())
    except FieldmarksError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A hub with a pack and another data set, as settings of a process."""
    repos = tmp_path_factory.mktemp("repos")
    for name in ("frogs", "photos"):
        (repos / "me" / name).mkdir(parents=True)
    (repos / "me" / "frogs" / "descriptors.jsonl").write_bytes(Store("frogs").path.read_bytes())
    (repos / "me" / "photos" / "README.md").write_text("photos")
    shutil.copytree(repos / "me" / "frogs", repos / "me" / "licensed")
    (repos / "me" / "licensed" / "README.md").write_text('---\nlicense: "cc-by-4.0"\n---\n\n# Frogs\n')
    with serve(repos) as address:
        yield {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path_factory.mktemp("home"))}


def _run(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "0"} | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_pack_is_read_and_what_is_wrong_is_named(hub: dict[str, str]) -> None:
    names = ["hf:me/frogs", "hf:me/frogs@main", PINNED]
    wrong = ["hf:me/frogs@v2", "hf:me/toads", "hf:me/photos", "hf:a/b/c", "hf:"]
    assert _run(hub, "-c", SCRIPT, *names, *wrong).stdout.splitlines() == [
        *[f"{PINNED} ['tree frog', 'bullfrog']"] * 3,
        "hf:me/frogs@v2: the data set has no revision 'v2'",
        "hf:me/toads: the hub has no such data set, or it is private",
        "hf:me/photos is not a pack: it has no descriptors.jsonl, which `fieldmarks store pack` writes",
        "hf:a/b/c is not a store on the Hugging Face Hub: expected hf:OWNER/NAME[@REVISION]",
        "hf: is not a store on the Hugging Face Hub: expected hf:OWNER/NAME[@REVISION]",
    ]
    away = hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    without = _run(away, "-c", SCRIPT, PINNED, "hf:me/frogs").stdout.splitlines()
    assert without[0] == f"{PINNED} ['tree frog', 'bullfrog']"
    assert without[1].startswith("hf:me/frogs: the hub does not answer (")
    assert without[1].endswith("connect, or set HF_HUB_OFFLINE=1 to use what was downloaded before")
    offline = _run(away | {"HF_HUB_OFFLINE": "1"}, "-c", SCRIPT, "hf:me/frogs", "hf:me/toads")
    assert offline.stdout.splitlines() == [
        f"{PINNED} ['tree frog', 'bullfrog']",
        "hf:me/toads was never downloaded, and HF_HUB_OFFLINE is set: unset it and connect",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        ["add", "bullfrog", "x"],
        ["drop", "bullfrog", "1"],
        ["replace", "--regex", "^a ", ""],
        ["edit", "--all"],
        ["review", "bullfrog"],
        ["undo"],
        ["compact"],
        ["lint", "--fix"],
    ],
)
def test_verbs_that_change_refuse_in_one_line(hub: dict[str, str], verb: list[str]) -> None:
    command, *rest = verb
    done = _run(hub, "-m", "fieldmarks", "store", command, "hf:me/frogs", *rest)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: hf:me/frogs")
    assert " is on the Hugging Face Hub and is read-only: `fieldmarks store copy hf:me/" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_commands_read_it_and_record_its_commit(hub: dict[str, str], tmp_path: Path) -> None:
    copied = tmp_path / "own.jsonl"
    assert _run(hub, "-m", "fieldmarks", "store", "copy", "hf:me/frogs", str(copied)).returncode == 0
    assert copied.read_bytes() == Store("frogs").path.read_bytes()
    same = _run(hub, "-m", "fieldmarks", "store", "diff", "hf:me/frogs@main", "frogs")
    assert (same.returncode, same.stdout) == (0, "")


@pytest.mark.slow
def test_a_packs_licence_is_told(hub: dict[str, str], tmp_path: Path) -> None:
    licensed = f"hf:me/licensed@{COMMIT}"
    pack = str(tmp_path / "pack")
    for name, said in (
        (licensed, "Its licence is cc-by-4.0."),
        ("hf:me/frogs", "Its card names no licence: ask its publisher before you use it."),
    ):
        copied = str(tmp_path / f"{len(name)}.jsonl")
        for verb in (["list", name], ["stats", name], ["copy", name, copied]):
            done = _run(hub, "-m", "fieldmarks", "store", *verb)
            assert (done.returncode, said in done.stderr) == (0, True), done.stderr
    packed = _run(hub, "-m", "fieldmarks", "store", "pack", licensed, pack)
    assert f"Its licence is that of {licensed}: cc-by-4.0." in packed.stderr
    away = hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "cc-by-4.0" in _run(away, "-m", "fieldmarks", "store", "list", licensed).stderr
    own = _run(away, "-m", "fieldmarks", "store", "list", str(Store("frogs").path))
    assert "licence" not in own.stderr


def test_a_file_of_that_name_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hf:frogs").write_bytes(Store("frogs").path.read_bytes())
    assert not Store("hf:frogs").is_on_hub
    assert Store("hf:frogs").names() == ["tree frog", "bullfrog"]
    with pytest.raises(StoreError, match="hf:me/new is on the Hugging Face Hub and is read-only"):
        Store("hf:me/new", create=True)
    with pytest.raises(StoreError, match="is not a store on the Hugging Face Hub"):
        fetch("hf:me/frogs@")
