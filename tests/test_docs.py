"""The pages of docs/ run: their Python blocks, in order, in a folder made by `fieldmarks demo`."""

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.documents import ROOT, blocks, run_python, run_shell, section

from fieldmarks.cli import main
from fieldmarks.cli.store.editing import editor_text_of_several
from fieldmarks.records import Entry
from fieldmarks.store import Store
from fieldmarks.store.edits import current_entry

API = (ROOT / "docs" / "api.md").read_text("utf-8")
CURATION = (ROOT / "docs" / "curation.md").read_text("utf-8")
FILES = (ROOT / "docs" / "files.md").read_text("utf-8")
LEARNING = (ROOT / "docs" / "learning.md").read_text("utf-8")


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `creatures`, as the page says."""
    folder = tmp_path_factory.mktemp("docs")
    run_shell("fieldmarks demo --out creatures", folder)
    return folder


def test_every_python_block_compiles() -> None:
    for script in blocks("python", API):
        compile(script, "docs/api.md", "exec")


def test_every_key_of_a_store_is_explained() -> None:
    keys = {field.name for field in fields(Entry)} - {"name", "extra"} | {"class"}
    explained = section("Store", FILES)
    assert [key for key in sorted(keys) if f"`{key}`" not in explained] == []


def test_the_page_on_curation_says_what_grep_prints(runner: CliRunner, own_folder: Path) -> None:
    table = blocks("sh", CURATION)[0].split("END")[1].lstrip("'\n")
    Path("dogs.csv").write_text(table)
    assert runner.invoke(main, ["store", "import", "dogs.jsonl", "dogs.csv"]).exit_code == 0
    shared = runner.invoke(main, ["store", "grep", "dogs.jsonl", "--shared"]).stdout
    section = editor_text_of_several([current_entry(Store("dogs.jsonl"), "dachshund")], {}).split("\n\n")[1]
    assert [shared, section] == blocks("text", CURATION)


@pytest.mark.slow
def test_the_commands_on_curation_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)
    run_shell("".join(blocks("sh", CURATION)), tmp_path)
    assert Store(tmp_path / "dogs.jsonl").names()[-1] == "corgie"


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other(demo_folder: Path) -> None:
    script = "\n".join(blocks("python", API))
    run_python(script, demo_folder)


@pytest.mark.slow
def test_the_page_on_learning_runs(demo_folder: Path) -> None:
    run_shell("".join(blocks("sh", LEARNING)), demo_folder)
    run_python("\n".join(blocks("python", LEARNING)), demo_folder)
