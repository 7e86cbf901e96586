"""The code blocks of the README and of docs/, and how the tests run them."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def blocks(language: str, text: str) -> list[str]:
    """Return the contents of all code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def section(title: str, text: str) -> str:
    """Return what stands below a heading of the second level."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"there is no section {title!r}"
    return match[1]


def links(text: str) -> list[str]:
    """Return the targets of all links that are not web addresses."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def run_shell(script: str, folder: Path, programs: Path) -> None:
    """Run a block of shell commands, each of which must succeed; `programs` is a folder, see tests.warm."""
    command = ["bash", "-euo", "pipefail", "-c", script]
    subprocess.run(command, cwd=folder, env=_environment(folder, programs), check=True)


def run_python(script: str, folder: Path, programs: Path) -> None:
    """Run a block of Python in a process of its own, as a reader would."""
    command = [str(programs / "python"), "-c", script]
    subprocess.run(command, cwd=folder, env=_environment(folder, programs), check=True)


def _environment(folder: Path, programs: Path) -> dict[str, str]:
    """Return the environment of this process with the programs first, without keys or the user's cache."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI")}
    environment.setdefault("FIELDMARKS_CACHE", str(folder / ".cache"))  # session fixtures have none yet
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    return environment
