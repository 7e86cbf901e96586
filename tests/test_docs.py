"""The pages of docs/ run: their Python blocks, in order, in a folder made by `fieldmarks demo`."""

from dataclasses import fields
from pathlib import Path

import pytest
from tests.documents import ROOT, blocks, run_python, run_shell, section

from fieldmarks.records import Entry

API = (ROOT / "docs" / "api.md").read_text("utf-8")
FILES = (ROOT / "docs" / "files.md").read_text("utf-8")


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


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other(demo_folder: Path) -> None:
    script = "\n".join(blocks("python", API))
    run_python(script, demo_folder)
