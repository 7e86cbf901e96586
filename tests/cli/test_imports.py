"""Commands that need no model load none of what models need: each is run for real, in one fresh process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fieldmarks.cli import main
from fieldmarks.cli.prompts import prompts
from fieldmarks.cli.store import store
from fieldmarks.records import Entry
from fieldmarks.store import Store

HEAVY = {
    *("torch", "transformers", "tokenizers", "safetensors", "openvino", "PIL"),
    *("openai", "httpx2", "pydantic", "numpy", "scipy", "sklearn", "matplotlib", "datasets", "pyarrow"),
}
COMMANDS = [
    ["--help"],
    ["--version"],
    ["prompts", "list"],
    ["prompts", "show", "article"],
    ["store", "list", "s.jsonl", "--sort", "effect"],
    ["store", "show", "s.jsonl", "frog"],
    ["store", "history", "s.jsonl", "frog"],
    ["store", "stats", "s.jsonl"],
    ["store", "lint", "s.jsonl"],
    ["store", "grep", "s.jsonl", "feet"],
    ["store", "add", "s.jsonl", "frog", "round toe pads"],
    ["store", "replace", "s.jsonl", "a crest", "a tall crest"],
    ["store", "drop", "s.jsonl", "frog", "wide mouth"],
    ["store", "review", "s.jsonl", "frog"],
    ["store", "page", "s.jsonl", "s.html"],
    ["store", "edit", "s.jsonl", "frog"],
    ["store", "rename", "s.jsonl", "newt", "eft"],
    ["store", "reparse", "s.jsonl"],
    ["store", "undo", "s.jsonl"],
    ["store", "redo", "s.jsonl"],
    ["store", "restore", "s.jsonl", "frog", "1"],
    ["store", "export", "s.jsonl", "s.csv"],
    ["store", "import", "t.jsonl", "s.csv"],
    ["store", "copy", "s.jsonl", "copy.jsonl"],
    ["store", "diff", "s.jsonl", "t.jsonl"],
    ["store", "merge", "both.jsonl", "s.jsonl", "t.jsonl", "--prefer", "a"],
    ["store", "compact", "s.jsonl", "--yes"],
    ["store", "pack", "s.jsonl", "pack", "--licence", "mit"],
]
PARQUET = {"pyarrow", "numpy"}  # what writing a table needs
# Prints, for each command, its exit code and the modules that it was the first to load.
SCRIPT = """
import json, sys
import pytest

from fieldmarks.cli import main
for command in json.loads(sys.argv[1]):
    before = set() if command == ["--help"] else set(sys.modules)
    try:
        main(command)
    except SystemExit as left:
        print(json.dumps([command, left.code, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""


def test_every_command_on_stores_and_prompts_is_tried() -> None:
    tried = {tuple(command[:2]) for command in COMMANDS if len(command) > 1}
    assert tried == {(group.name, name) for group in (store, prompts) for name in group.commands}


@pytest.mark.slow
def test_commands_without_models_load_no_libraries_of_models(tmp_path: Path) -> None:
    Store(tmp_path / "s.jsonl", create=True).append(
        Entry("frog", ("webbed feet", "wide mouth")), Entry("newt", ("a crest",))
    )
    groups = [[name, "--help"] for name in main.commands]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(COMMANDS + groups)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"EDITOR": "true"},
    )
    reports = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    assert [command for command, _, _ in reports] == COMMANDS + groups
    assert [command for command, code, _ in reports if code != 0] == []
    loaded = [
        (
            command,
            {name.split(".")[0] for name in modules} & HEAVY - (PARQUET if "pack" in command else set()),
        )
        for command, _, modules in reports
    ]
    assert [(command, names) for command, names in loaded if names] == []
