"""Defaults from `fieldmarks.toml` and the environment: what comes first, what is refused, what is said."""

import os
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import write_store

from fieldmarks.cli import main
from fieldmarks.cli.configuration import SETTABLE, parse
from fieldmarks.cli.root import ENVIRONMENT
from fieldmarks.errors import UsageError

FILE = Path("fieldmarks.toml")
DANGEROUS = (
    *("base-url", "header", "log-file", "out", "report", "resume", "save-classifier", "save-plots", "json"),
    *("yes", "force", "fix", "refresh", "write-flags", "samples", "max-tokens", "retries", "price-in"),
    *("price-out", "max-cost", "allow-missing", "limit", "host", "port", "on"),
)


@pytest.fixture(autouse=True)
def _plain(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*ENVIRONMENT.values(), "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)


def _dry_run(runner: CliRunner, *options: str) -> tuple[int, str]:
    """Plan a generation, whose closing lines and errors tell which options it has."""
    result = runner.invoke(main, ["generate", "--class", "owl", "--dry-run", *options])
    return result.exit_code, result.output


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    for name, count in (("file", 1), ("environment", 2), ("option", 3)):
        write_store(own_folder / f"{name}.jsonl", {f"class {number}": ["a"] for number in range(count)})

    def classes(*options: str) -> str:
        result = runner.invoke(main, ["evaluate", "photos", "--preflight", *options])
        return result.stderr

    (own_folder / "photos" / "class 0").mkdir(parents=True)
    (own_folder / "photos" / "class 0" / "a.png").write_bytes(b"x")
    FILE.write_text('store = "file.jsonl"\n')
    assert "class 1" not in classes()
    monkeypatch.setenv("FIELDMARKS_STORE", "environment.jsonl")
    assert "class 1" in classes()
    assert "class 2" not in classes()
    assert "class 2" in classes("--store", "option.jsonl")


def test_a_table_of_a_command_comes_before_the_keys_for_all(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    FILE.write_text('store = "a.jsonl"\nmodel = "m"\n[generate]\nstore = "b.jsonl"\nprompt = "nowhere.txt"\n')
    code, output = _dry_run(runner)
    assert code == 1
    assert "Defaults from fieldmarks.toml: --store b.jsonl, --model m, --prompt nowhere.txt" in output
    assert "nowhere.txt" in output.splitlines()[-1]


def test_a_default_gives_way_to_its_alternative_on_the_command_line(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDMARKS_STORE", "mine.jsonl")
    result = runner.invoke(main, ["classify", __file__, "--classifier", "none.safetensors"])
    assert "give either" not in result.output
    assert "none.safetensors" in result.output
    FILE.write_text('local = "a-model"\n')
    monkeypatch.setenv("FIELDMARKS_MODEL", "m")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    code, output = _dry_run(runner, "--store", "s.jsonl")
    assert (code, "a-model" in output.splitlines()[-1]) == (0, False)
    refused = runner.invoke(main, ["classify", "a.png", "--store", "s", "--classifier", "c"])
    assert refused.output.splitlines()[-1] == (
        "Error: give either --store or --classifier, or class names with --class"
    )


@pytest.mark.parametrize("key", DANGEROUS)
def test_what_could_do_harm_is_not_settable(key: str) -> None:
    assert key not in SETTABLE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stoer = 'a'", "unknown key 'stoer' (did you mean 'store'?)"),
        ("[clasify]\ntop = 3", "[clasify] is not a command with settings (did you mean 'classify'?)"),
        ("[classify]\ntpo = 3", "[classify]: unknown key 'tpo' (did you mean 'top'?)"),
        ("[evaluate]\ntop = 3", "[evaluate]: unknown key 'top'"),
        ("[classify]\ntop = 0", "[classify]: top: expected a whole number from 1 on, found '0'"),
        ("[classify]\ntop = true", "[classify]: top: expected a text or a number, found True"),
        ("[classify]\nexplain = 'yes'", "[classify]: explain: expected true or false, found 'yes'"),
        ("device = 'gpu'", "device: expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"),
        ("base-url = 'http://evil'", "'base-url' cannot be set in a file"),
        ("[classify]\nreport = '/tmp/x.html'", "'report' cannot be set in a file"),
        ("store = '../other.jsonl'", "'../other.jsonl' is outside the folder"),
        ("store = '/etc/passwd'", "'/etc/passwd' is outside the folder"),
        ("store = 'link.jsonl'", "'link.jsonl' is outside the folder"),
        ("prompt = '../secret'", "'../secret' is outside the folder"),
        ("store = ", "cannot be read as TOML: Invalid value (at end of document)"),
        ("a = " + "[" * 5000, "cannot be read as TOML: "),
        ("a = " + "9" * 5000, "cannot be read as TOML: "),
        ('store = "a\\u0000"', "is outside the folder"),
        ("# " + "x" * 70_000, "has over 65,536 bytes"),
        ("\0", "a NUL byte"),
    ],
)
def test_what_cannot_be_used_is_one_line(runner: CliRunner, text: str, reason: str, own_folder: Path) -> None:
    (own_folder / "link.jsonl").symlink_to("/etc/passwd")
    FILE.write_text(text)
    result = runner.invoke(main, ["prompts", "list"])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: fieldmarks.toml")
    assert reason in line
    assert len(line) < 700


def test_odd_files_are_one_line(runner: CliRunner) -> None:
    FILE.mkdir()
    assert runner.invoke(main, ["prompts", "list"]).stderr == (
        "Error: fieldmarks.toml is a folder: pass a file\n"
    )
    FILE.rmdir()
    os.mkfifo(FILE)
    result = runner.invoke(main, ["prompts", "list"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    FILE.unlink()
    FILE.symlink_to("gone.toml")
    assert "cannot be read" in runner.invoke(main, ["prompts", "list"]).stderr


def test_a_file_in_a_parent_folder_is_not_read(
    runner: CliRunner, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE.write_text("nonsense")
    (own_folder / "below").mkdir()
    monkeypatch.chdir(own_folder / "below")
    assert runner.invoke(main, ["prompts", "list"]).exit_code == 0


def test_verbose_names_the_file(runner: CliRunner, own_folder: Path) -> None:
    FILE.write_text('store = "mine.jsonl"\n')
    result = runner.invoke(main, ["-v", "prompts", "list"])
    assert f"reads defaults from {own_folder}/fieldmarks.toml" in result.stderr
    assert "reads defaults" not in runner.invoke(main, ["prompts", "list"]).stderr


def test_lists_are_for_options_that_take_several(runner: CliRunner) -> None:
    values = parse('arms = ["photo", "descriptors"]\npreset = "paper"', main.import_all())
    assert values["evaluate"]["arms"] == ("arms", "photo,descriptors")
    assert values["classify"]["preset"] == ("preset", "paper")
    assert values["evaluate"]["preset"] == ("presets", "paper")
    with pytest.raises(UsageError, match="expected a text or a number"):
        parse('clip = ["a"]', main.import_all())


@given(st.text(max_size=200))
def test_whatever_the_file_holds_is_settings_or_one_error(text: str) -> None:
    with suppress(UsageError):
        assert parse(text, main.import_all()).keys() == main.import_all().keys()


def test_every_option_with_a_variable_shows_it_in_its_help(runner: CliRunner) -> None:
    for name, command in main.import_all().items():
        for option in command.params:
            if isinstance(option, click.Option) and option.name in ENVIRONMENT:
                shown = " ".join(runner.invoke(main, [name, "--help"]).stdout.split())
                assert f"[env var: {ENVIRONMENT[option.name]}" in shown, name
