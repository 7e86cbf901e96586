"""How many modules and kinds of records four things pass on their way through the program.

    python tests/traces.py [--show] [THING …]

The things are a class name on its way to its line in a store, an image to its label, a labelled data set to
a figure, and an edit to its line. Each command runs in a process of its own with an empty cache, in a world
that `fieldmarks demo` makes. A module counts if any of its functions runs, other than while modules are
imported; a kind of record if an instance of it is passed to or returned from a function.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

COMMANDS: dict[str, tuple[str, ...]] = {
    "class to line": ("generate", "--class", "zorblat", "--store", "new.jsonl", "--local", "models/lm"),
    "image to label": (
        "classify",
        "pictures/zorblat/00.png",
        "--store",
        "demo.jsonl",
        "--clip",
        "models/clip",
    ),
    "data set to figure": ("evaluate", "pictures", "--store", "demo.jsonl", "--clip", "models/clip"),
    "edit to line": ("store", "add", "edited.jsonl", "zorblat", "a purple hat"),
}
VERSION_0_1 = {
    "class to line": (26, 26),
    "image to label": (36, 30),
    "data set to figure": (56, 54),
    "edit to line": (14, 8),
}
# The most that a test allows: raised for a new feature on one of these ways, and lowered for good otherwise.
MOST = {
    "class to line": (22, 24),
    "image to label": (36, 40),
    "data set to figure": (47, 60),
    "edit to line": (10, 7),
}


def tracer(modules: set[str], kinds: set[str]) -> Callable[[FrameType, str, Any], None]:
    """Return a profiling function that collects our modules that run, and the types of ours that pass."""

    def see(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event not in ("call", "return") or not name.startswith("fieldmarks"):
            return
        code = frame.f_code
        if _is_importing(frame):
            return
        modules.add(name)
        count = code.co_argcount + code.co_kwonlyargcount
        passed = [frame.f_locals.get(local) for local in code.co_varnames[:count]]
        for value in passed if event == "call" else [argument]:
            several = value[:3] if isinstance(value, list | tuple) else ()
            kinds.update(
                f"{type(part).__module__}.{type(part).__name__}"
                for part in (value, *several)
                if type(part).__module__.startswith("fieldmarks")
            )

    return see


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__", "").startswith(
            "fieldmarks"
        ):
            return True
        frame = frame.f_back
    return False


def _load_libraries() -> None:
    """Import what is slow to import, all the more while it is traced, and none of ours."""
    import scipy.stats  # type: ignore[import-untyped]
    import torch
    import transformers

    assert torch, scipy
    for name in ("AutoModelForCausalLM", "AutoTokenizer", "AutoImageProcessor", "CLIPModel"):
        getattr(transformers, name)


def run_traced(arguments: Sequence[str]) -> tuple[set[str], set[str]]:
    """Run a command in this process; return the modules and the kinds of records that it passed."""
    from fieldmarks.cli import main

    if arguments[0] != "store":
        _load_libraries()
    modules: set[str] = set()
    kinds: set[str] = set()
    see = tracer(modules, kinds)
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        main.main(list(arguments))
    except SystemExit as leaving:
        if leaving.code:
            raise
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return modules, kinds


def trace(thing: str, world: Path) -> tuple[set[str], set[str]]:
    """Trace one thing's command in a fresh process, in a folder that `fieldmarks demo --out` made."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "world"
        folder.mkdir()
        for part in world.iterdir():
            (folder / part.name).symlink_to(part.resolve())
        shutil.copy(world / "demo.jsonl", folder / "edited.jsonl")
        command = [sys.executable, __file__, "--child", *COMMANDS[thing]]
        cache = {"XDG_CACHE_HOME": str(Path(scratch) / "cache")}
        subprocess.run(command, cwd=folder, env=os.environ | cache, capture_output=True, check=True)
        modules, kinds = json.loads((folder / "trace.json").read_text("utf-8"))
    return set(modules), set(kinds)


def make_world(folder: Path) -> None:
    """Make the demo's stores, images and models in a new folder."""
    command = [sys.executable, "-m", "fieldmarks", "demo", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("things", nargs="*", choices=[*COMMANDS, []], metavar="THING")
    parser.add_argument("--show", action="store_true", help="name the modules and records")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(scratch) / "creatures"
        make_world(world)
        print(f"{'':20}{'modules':>18}{'kinds of records':>20}")
        print(f"{'':20}{'0.1':>10}{'now':>8}{'0.1':>12}{'now':>8}")
        for thing in options.things or COMMANDS:
            modules, kinds = trace(thing, world)
            before = VERSION_0_1[thing]
            print(f"{thing:20}{before[0]:10}{len(modules):8}{before[1]:12}{len(kinds):8}")
            if options.show:
                print("\n".join(f"    {name}" for name in [*sorted(modules), "", *sorted(kinds)]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        seen = run_traced(sys.argv[2:])
        Path("trace.json").write_text(json.dumps([sorted(names) for names in seen]), "utf-8")
    else:
        main()
