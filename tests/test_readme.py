"""The README runs: its step-by-step commands and its Python block, in order, in one folder."""

from pathlib import Path

import click
import pytest
from tests.documents import ROOT, blocks, links, run_python, run_shell, section

from fieldmarks.cli import main

README = (ROOT / "README.md").read_text("utf-8")


def test_the_first_screen_has_two_commands_for_a_fresh_machine() -> None:
    first_screen = README.split("\n## ")[0]
    install = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt"
    assert blocks("sh", first_screen) == [
        f"{install} . && .venv/bin/fieldmarks demo\n",
        f"{install} -e '.[test]' && .venv/bin/python -m pytest -n logical\n",
    ]


def test_every_command_line_of_the_readme_parses() -> None:
    scripts = "".join(blocks("sh", README))
    lines = [line for line in scripts.splitlines() if line.startswith("fieldmarks ")]
    assert len(lines) >= 5
    for line in lines:
        name, *_ = line.split()[1:]
        command = main.get_command(click.Context(main), name)
        assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        if not isinstance(command, click.Group):
            assert {word for word in line.split() if word.startswith("--")} <= known, line


def test_offline_comes_before_endpoints() -> None:
    assert README.index("## Step by step") < README.index("OPENAI_API_KEY")


def test_links_to_files_lead_somewhere() -> None:
    for name in ("README.md", "docs/api.md", "docs/curation.md", "docs/files.md"):
        page = ROOT / name
        targets = [target.partition("#")[0] for target in links(page.read_text("utf-8"))]
        assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.slow
def test_the_step_by_step_commands_and_the_python_block_run(tmp_path: Path) -> None:
    for script in blocks("sh", section("Step by step", README)):
        run_shell(script, tmp_path)
    for script in blocks("python", README):
        run_python(script, tmp_path)
