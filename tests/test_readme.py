"""README and docs run: the tutorial's commands and the README's Python block, in order, in one folder."""

from pathlib import Path

import click
import pytest
from tests.documents import ROOT, blocks, links, run_python, run_shell

from fieldmarks.cli import main

README = (ROOT / "README.md").read_text("utf-8")
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def test_the_first_screen_has_two_commands_for_a_fresh_machine() -> None:
    first_screen = README.split("\n## ")[0]
    install = "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt"
    assert blocks("sh", first_screen) == [
        f"{install} . && fieldmarks demo\n",
        f"{install} -e '.[test]' && python -m pytest -n logical\n",
    ]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 170


def test_every_command_line_of_the_pages_parses() -> None:
    scripts = "".join(script for page in PAGES.values() for script in blocks("sh", page.read_text("utf-8")))
    lines = [line for line in scripts.splitlines() if line.startswith("fieldmarks ")]
    assert len(lines) >= 5
    for line in lines:
        name, *_ = line.split()[1:]
        command = main.import_all().get(name)
        assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        if not isinstance(command, click.Group):
            assert {word for word in line.split() if word.startswith("--")} <= known, line


def test_offline_comes_before_endpoints() -> None:
    assert README.index("fieldmarks demo") < README.index("OPENAI_API_KEY")


def test_links_to_files_lead_somewhere() -> None:
    for page in PAGES.values():
        targets = [target.partition("#")[0] for target in links(page.read_text("utf-8"))]
        assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.slow
def test_the_tutorials_commands_and_the_python_block_run(tmp_path: Path, programs: Path) -> None:
    for script in blocks("sh", PAGES["tutorial.md"].read_text("utf-8")):
        run_shell(script, tmp_path, programs)
    for script in blocks("python", README):
        run_python(script, tmp_path, programs)
