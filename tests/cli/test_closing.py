"""Every command ends with one line on stderr that says what it did and how long it took."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image
from tests.generation.scripted_server import ScriptedServer
from tests.kit import TOOK, write_store

from fieldmarks.cli import main

MODEL = ("--clip", "{clip}", "--engine", "torch", "--device", "cpu", "--dtype", "float32")
# One use of each command, in a folder with a store and photos, in this order.
USES = {
    "prompts list": "Listed 6 prompts.",
    "prompts show article": "Showed the prompt article.",
    "doctor": "Checked the installation; --base-url, --model, --local and --clip check models.",
    "generate --class fox --store new.jsonl --base-url {url} --model m --mode completions": (
        "Wrote 1 class to new.jsonl (0 already there, 0 failed)."
    ),
    "store list": r"Listed the \d+ stores that ship with fieldmarks.",
    "store list mine.jsonl": "Listed 2 classes of mine.jsonl.",
    "store show mine.jsonl owl": "Showed 2 descriptors.",
    "store grep mine.jsonl eyes": "Found 1 descriptor in 1 class.",
    "store history mine.jsonl owl": "Showed 1 line.",
    "store stats mine.jsonl": "Counted what mine.jsonl holds.",
    "store lint mine.jsonl": r"[N\d]o? findings?.*\.",
    "store add mine.jsonl owl wings": ".* 1 descriptor added.* reverts it.",
    "store undo mine.jsonl": "Undid .* brings it back.",
    "store redo mine.jsonl": "Redid .* reverts it.",
    "store drop mine.jsonl owl wings": ".* 1 descriptor removed.* reverts it.",
    "store replace mine.jsonl eyes beaks": ".* reverts it.",
    "store rename mine.jsonl newt eft": "Renamed .* reverts it.",
    "store restore mine.jsonl owl 1": "Restored line 1 of 'owl'.* reverts it.",
    "store review mine.jsonl owl": "Marked 1 class as approved. .* reverts it.",
    "store page mine.jsonl mine.html": "Wrote a page of 2 classes to mine.html.",
    "store pack mine.jsonl pack --licence mit": "Packed 2 classes in pack.",
    "store edit mine.jsonl owl": "Nothing to change.",
    "store reparse mine.jsonl": "mine.jsonl is as the parser reads its answers.",
    "store export mine.jsonl mine.csv": "Exported 2 classes to mine.csv.",
    "store import more.jsonl mine.csv": "Imported 2 classes; 0 unchanged.* reverts it.",
    "store copy mine.jsonl copy.jsonl": "Copied 2 classes to copy.jsonl.",
    "store diff mine.jsonl copy.jsonl": "0 classes differ.",
    "store merge all.jsonl mine.jsonl more.jsonl --prefer a": ".*Wrote all.jsonl.",
    "store compact all.jsonl --yes": r"2 of \d+ lines stay..*",
    "classify photos --store mine.jsonl {model}": "Classified 2 images.",
    "classify photos --store mine.jsonl --sort-into sorted {model}": (
        r"Classified 2 images. Copied 2 images into \d folders? of sorted; `fieldmarks unsort sorted`"
        " undoes it."
    ),
    "unsort sorted": "Undid the sorting into sorted: 2 copies removed.",
    "embed photos --out set {model}": "Added 2 images to set; it has 2 images.",
    "evaluate photos --store mine.jsonl --arms photo,descriptors --json run.json {model}": (
        "Evaluated 2 arms on 2 images. Wrote run.json."
    ),
    "compare run.json": "Read 1 run.*",
    "what-if owl photos --store mine.jsonl --add fur {model}": "Compared 2 images: .* would change.",
    "learn photos --store mine.jsonl -o learned.safetensors {model}": ".*Wrote learned.safetensors.",
    "calibrate photos --store mine.jsonl -o sure.safetensors {model}": ".*Wrote sure.safetensors.",
    "search set owl --all": "Nothing in set fits .*",
    "cache info": "Showed what is cached; `fieldmarks cache clear` removes it.",
    "cache clear": r"Freed \d+.\d MB.",
}
ELSEWHERE = ["demo", "serve"]  # run by tests/demo and tests/serve


def _leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[str]:
    if command is main:
        main.import_all()
    if not isinstance(command, click.Group):
        return [" ".join(path)]
    return [leaf for name, child in command.commands.items() for leaf in _leaves(child, (*path, name))]


def test_each_command_has_a_use_here() -> None:
    leaves = _leaves(main)
    assert [leaf for leaf in leaves if not any(f"{use} ".startswith(f"{leaf} ") for use in USES)] == ELSEWHERE


@pytest.mark.slow
def test_every_command_ends_with_what_it_did_and_how_long_it_took(
    own_folder: Path, tiny_clip: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_BASE_URL", "VISUAL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("EDITOR", "true")
    write_store(own_folder / "mine.jsonl", {"owl": ["round head", "eyes"], "newt": ["a long tail"]})
    for number, name in enumerate(("owl", "eft")):
        (own_folder / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (90 * number, 80, 70)).save(own_folder / "photos" / name / "a.png")
    for use, closing in USES.items():
        words = use.format(url=server.url, model=" ".join(MODEL)).format(clip=tiny_clip).split()
        result = CliRunner().invoke(main, ["-q", *words])
        assert result.exit_code == 0, (use, result.output)
        last = result.stderr.splitlines()[-1]
        assert TOOK.search(last), (use, result.stderr)
        assert re.fullmatch(closing.replace("(", r"\(").replace(")", r"\)"), TOOK.sub("", last)), (use, last)


def test_the_commands_are_listed_in_the_order_of_work() -> None:
    listed = main.list_commands(click.Context(main))
    expected = ["demo", "generate", "store", "classify", "evaluate", "what-if", "cache"]
    assert [name for name in listed if name in expected] == expected
    store = main.import_all()["store"]
    assert isinstance(store, click.Group)
    expected = ["list", "lint", "edit", "undo", "export", "merge", "pack"]
    assert [name for name in store.list_commands(click.Context(store)) if name in expected] == expected


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["fieldmarks", "cl"], ["classify"]),
        (["fieldmarks", "store", "und"], ["undo"]),
        (["fieldmarks", "classify", "--expl"], ["--explain"]),
        (["fieldmarks", "store", "show", "mine.jsonl", "ow"], ["owl"]),
    ],
)
def test_bash_completes(own_folder: Path, typed: list[str], offered: list[str]) -> None:
    """Runs click's script for bash as the shell would on Tab."""
    write_store(own_folder / "mine.jsonl", {"tree frog": ["eyes"], "owl": ["beak"]})
    program = own_folder / "bin" / "fieldmarks"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom fieldmarks.cli import main\nmain()\n")
    program.chmod(0o755)
    words = " ".join(f"'{word}'" for word in typed)
    script = f"""
        eval "$(_FIELDMARKS_COMPLETE=bash_source fieldmarks)"
        COMP_WORDS=({words}) COMP_CWORD={len(typed) - 1} COMP_LINE={typed[0]!r} COMP_POINT=0
        _fieldmarks_completion fieldmarks
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    shown = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    )
    assert [text for text in shown.stdout.splitlines() if text in offered] == offered, shown
