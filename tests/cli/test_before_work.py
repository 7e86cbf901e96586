"""What would fail at the end fails first: outputs that cannot be written, extras that are not installed."""

import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import write_store

from fieldmarks import extras
from fieldmarks.cli import main

ROOT = Path(__file__).resolve().parents[2]
NO_MODEL = ["--clip", "/nonexistent"]  # whose error comes first once the work begins
MISSING, NO_FOLDER = "its folder does not exist", "afile is not one"


@pytest.fixture(autouse=True)
def _photos(own_folder: Path) -> None:
    (own_folder / "photos" / "owl").mkdir(parents=True)
    (own_folder / "photos" / "owl" / "a.png").write_bytes(b"x")
    (own_folder / "afile").write_text("mine")
    write_store(own_folder / "s.jsonl", {"owl": ["a beak"]})


CLASSIFY = ["classify", "photos", "--store", "s.jsonl", *NO_MODEL]
EVALUATE = ["evaluate", "photos", "--store", "s.jsonl", *NO_MODEL]
SEARCH = ["search", "photos", "owl", *NO_MODEL]
EMBED = ["embed", "photos", *NO_MODEL]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([*CLASSIFY, "--report", "no/x.html"], MISSING),
        ([*CLASSIFY, "--save-classifier", "no/x.safetensors"], MISSING),
        ([*CLASSIFY, "--resume", "no/x.jsonl"], "no/x.jsonl cannot be used"),
        ([*CLASSIFY, "--report", "afile"], "already exists"),
        ([*CLASSIFY, "--save-classifier", "afile"], "already exists"),
        ([*CLASSIFY, "--resume", "afile"], "already exists"),
        ([*EVALUATE, "--json", "no/x.json"], MISSING),
        ([*EVALUATE, "--report", "no/x.html"], MISSING),
        ([*EVALUATE, "--save-plots", "afile/x"], NO_FOLDER),
        ([*EVALUATE, "--save-plots", "afile"], "already exists"),
        ([*EMBED, "--out", "afile/x"], NO_FOLDER),
        ([*SEARCH, "--report", "no/x.html"], MISSING),
        ([*SEARCH, "--report", "afile"], "already exists"),
        (["search", "photos", "--duplicates", "--report", "afile"], "already exists"),
        ([*EMBED, "--out", "photos"], "already exists"),
    ],
)
def test_an_output_that_cannot_be_written_fails_before_the_model_loads(
    runner: CliRunner, command: list[str], reason: str
) -> None:
    result = runner.invoke(main, command)
    assert result.exit_code == 1
    assert reason in result.stderr.splitlines()[-1]
    assert Path("afile").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "--class", "a", "--store", "new/x.jsonl"],
        pytest.param(
            ["generate", "--class", "a", "--store", "new/x.jsonl", "--local", "/nonexistent"],
            marks=pytest.mark.slow,  # imports torch
        ),
        [
            "generate",
            "--class",
            "a",
            "--store",
            "new/x.jsonl",
            "--model",
            "m",
            "--max-wait",
            "1",
            "--base-url",
            "http://127.0.0.1:9/v1",
        ],
        ["store", "add", "new/x.jsonl", "owl", ""],
        ["store", "import", "new/x.jsonl", "afile"],
        ["store", "merge", "new/x.jsonl", "s.jsonl", "none", "--prefer", "a"],
        ["store", "pack", "s.jsonl", "new/x", "--evaluation", "afile"],
        [*CLASSIFY, "--sort-into", "new/x"],
        [*EMBED, "--out", "new/x"],
        [*EVALUATE, "--save-plots", "new/x"],
    ],
)
def test_a_command_that_cannot_work_leaves_nothing_behind(
    runner: CliRunner, command: list[str], own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    before = sorted(own_folder.rglob("*"))
    assert runner.invoke(main, command).exit_code in (1, 2)
    assert sorted(own_folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("matplotlib", "eval", [*EVALUATE, "--report", "x.html"]),
        ("matplotlib", "eval", [*EVALUATE, "--save-plots", "plots"]),
        ("scipy", "eval", EVALUATE),
        ("pyarrow", "embed", [*EMBED, "--out", "set"]),
        ("datasets", "data", ["evaluate", "hf:nobody/nothing", "--store", "s.jsonl", *NO_MODEL]),
    ],
)
def test_a_missing_extra_is_named_before_the_model_loads(module: str, extra: str, command: list[str]) -> None:
    script = f"import sys; sys.modules[{module!r}] = None\nfrom fieldmarks.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(extras.install(extra))


def test_extras_are_installed_by_the_packages_that_the_project_lists() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    installed = set(metadata("fieldmarks").get_all("Provides-Extra") or [])
    compared = [extra for extra in extras.MODULES if extra in installed]
    assert "eval" in compared
    for extra in compared:
        assert extras.install(extra) == f"pip install {' '.join(map(repr, listed[extra]))}"


@pytest.mark.parametrize(
    ("words", "suffix"),
    [
        ([*CLASSIFY, "--resume", "out.csv"], ".jsonl"),
        ([*CLASSIFY, "--report", "r.txt"], ".html"),
        ([*CLASSIFY, "--save-classifier", "r.pt"], ".safetensors"),
        ([*SEARCH, "--report", "r"], ".html"),
        (["learn", "photos", "--store", "store.jsonl", "-o", "x.pt"], ".safetensors"),
        (["calibrate", "photos", "--store", "store.jsonl", "-o", "x.pt"], ".safetensors"),
        (["evaluate", "photos", "--store", "store.jsonl", "--json", "run.txt"], ".json"),
        (["evaluate", "photos", "--store", "store.jsonl", "--report", "r.json"], ".html"),
        (["compare", "run.json", "--report", "r.md"], ".html"),
    ],
)
def test_a_new_file_has_the_suffix_of_its_format(runner: CliRunner, words: list[str], suffix: str) -> None:
    result = runner.invoke(main, words)
    assert result.exit_code == 2
    assert f"expected a name that ends in {suffix}\n" in result.stderr
