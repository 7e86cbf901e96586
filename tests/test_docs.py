"""The pages of docs/ run: their Python blocks, in order, in a folder made by `fieldmarks demo`."""

import re
import shutil
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.documents import ROOT, blocks, run_python, run_shell, section

from fieldmarks.cli import main
from fieldmarks.cli.configuration import SETTABLE, parse
from fieldmarks.cli.store.editing import editor_text_of_several
from fieldmarks.records import Entry
from fieldmarks.store import Store
from fieldmarks.store.edits import current_entry

ACCURACY = (ROOT / "docs" / "accuracy.md").read_text("utf-8")
API = (ROOT / "docs" / "api.md").read_text("utf-8")
CURATION = (ROOT / "docs" / "curation.md").read_text("utf-8")
SEARCH = (ROOT / "docs" / "search.md").read_text("utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text("utf-8")
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text("utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text("utf-8")
FILES = (ROOT / "docs" / "files.md").read_text("utf-8")
LEARNING = (ROOT / "docs" / "learning.md").read_text("utf-8")


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory, creatures: Path) -> Path:
    """A folder that holds `creatures`, as the page says."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(creatures, folder / "creatures")
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


def test_the_example_of_a_configuration_can_be_used() -> None:
    (example,) = blocks("toml", CONFIGURATION)
    assert set(parse(example, main.import_all())["classify"]) == {"store", "clip", "top", "explain"}
    assert [key for key in sorted(SETTABLE) if f"`{key}`" not in CONFIGURATION] == []


def test_the_commands_of_schedulers_have_known_options() -> None:
    texts = "".join(block for kind in ("text", "ini") for block in blocks(kind, DEPLOYMENT))
    lines = re.findall(r"(?<=[ /=])fieldmarks ((?:-q |--log-file \S+ )*)([a-z-]+) (photos.*)", texts)
    assert len(lines) == 2
    for _, name, rest in lines:
        known = {option for parameter in main.import_all()[name].params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known, rest


def test_the_dockerfile_copies_what_there_is_and_installs_extras_that_there_are() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    sources = [
        word
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert [name for name in sources if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert [name for name in sources if f"!{name}" not in ignored] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[([a-z,]+)\]'", dockerfile)
    assert set(named.split(",")) <= set(extras)
    assert re.findall(r"^USER (\d+)$", dockerfile, re.MULTILINE) not in ([], ["0"])


@pytest.mark.slow
def test_the_commands_on_curation_run_one_after_the_other(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)
    run_shell("".join(blocks("sh", CURATION)), tmp_path, programs)
    assert Store(tmp_path / "dogs.jsonl").names()[-1] == "corgie"


@pytest.mark.slow
def test_the_commands_on_search_run_one_after_the_other(demo_folder: Path, programs: Path) -> None:
    commands = "".join(blocks("sh", SEARCH))
    run_shell(commands, demo_folder, programs)
    _, *found = (demo_folder / "red.csv").read_text().splitlines()
    assert len(found) == len(list((demo_folder / "red").iterdir())) > 5
    run_python(blocks("python", SEARCH)[0], demo_folder, programs)


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other(demo_folder: Path, programs: Path) -> None:
    script = "\n".join(blocks("python", API))
    run_python(script, demo_folder, programs)


@pytest.mark.slow
def test_the_page_on_learning_runs(tmp_path: Path, demo_folder: Path, programs: Path) -> None:
    (tmp_path / "creatures").symlink_to(demo_folder / "creatures")  # files of the other pages stay apart
    run_shell("".join(blocks("sh", LEARNING)), tmp_path, programs)
    run_python("\n".join(blocks("python", LEARNING)), tmp_path, programs)


@pytest.mark.slow
def test_the_commands_that_compare_runs_run(demo_folder: Path, programs: Path) -> None:
    run_shell("".join(blocks("sh", section("Compare runs", ACCURACY))), demo_folder, programs)
    assert "Descriptors help" in (demo_folder / "article.html").read_text("utf-8")
    assert (demo_folder / "comparison.tex").read_text("utf-8").startswith("% needs")


@pytest.mark.slow
def test_the_page_on_results_runs_and_what_was_sorted_is_undone(
    tmp_path: Path, demo_folder: Path, programs: Path
) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "creatures").symlink_to(demo_folder / "creatures")
    commands = blocks("sh", RESULTS)
    (unsort,) = (command for command in commands if "unsort" in command)
    commands.remove(unsort)
    for command in commands:
        run_shell(command, tmp_path, programs)
    assert len(list((tmp_path / "sorted").glob("*/*.png"))) == 240
    for script in blocks("python", RESULTS):
        run_python(script, tmp_path, programs)
    run_shell(unsort, tmp_path, programs)
    assert not (tmp_path / "sorted").exists()
    moved = shutil.copytree(demo_folder / "creatures" / "pictures" / "zorblat", tmp_path / "photos")
    asked = "--store creatures/demo.jsonl --clip creatures/models/clip --sort-into sorted --move"
    run_shell(f"fieldmarks classify photos {asked}", tmp_path, programs)
    assert list(moved.iterdir()) == []
    run_shell(unsort, tmp_path, programs)
    assert len(list(moved.iterdir())) == 20
