"""One server with the demo's classifier, which all tests of it share."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit import write_store
from tests.serve.served import Served, serving

from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import demo_species, entry

MODEL = ("--dtype", "float32", "--engine", "torch", "--no-cache")


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of the demo's species, and two drawings of each."""
    for module in ("starlette", "uvicorn", "python_multipart"):
        pytest.importorskip(module, reason="pip install 'fieldmarks[web]'")
    folder = tmp_path_factory.mktemp("zoo")
    write_store(folder / "s.jsonl", {name: list(entry(name)) for name in demo_species()})
    for name, creature in demo_species().items():
        for number in range(2):
            draw(creature, random.Random(f"served {name} {number}")).save(folder / f"{name}-{number}.png")
    return folder


@pytest.fixture(scope="session")
def served(zoo: Path, demo_clip: Path) -> Iterator[Served]:
    """The server."""
    with serving(
        "--store", str(zoo / "s.jsonl"), "--clip", str(demo_clip), *MODEL, "--max-body", "4"
    ) as running:
        yield running
