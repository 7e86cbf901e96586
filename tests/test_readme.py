"""The README runs: its hands-on commands and its Python blocks, in order, in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fieldmarks.cli import main

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def test_the_first_screen_has_two_commands_for_a_fresh_machine() -> None:
    first_screen = README.split("\n## ")[0]
    install = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt"
    assert _blocks("sh", first_screen) == [
        f"{install} . && .venv/bin/fieldmarks demo\n",
        f"{install} -e '.[test]' && .venv/bin/python -m pytest\n",
    ]


def test_every_command_line_of_the_readme_parses() -> None:
    lines = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("fieldmarks ")]
    assert len(lines) >= 5
    for line in lines:
        name, *_ = line.split()[1:]
        command = main.get_command(click.Context(main), name)
        assert command is not None, line
        known = {option for one in command.params for option in one.opts}
        if not isinstance(command, click.Group):
            assert {word for word in line.split() if word.startswith("--")} <= known, line


@pytest.mark.slow
def test_the_hands_on_commands_and_python_blocks_run(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    evaluation, _, _ = _section(r"Does it help on your pictures\?").partition("\n### ")
    for script in _blocks("sh", _section("Try every step by hand") + evaluation):
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
    for script in _blocks("python"):
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
