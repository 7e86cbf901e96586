"""One server with the demo's classifier, which all tests of it share."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def calibrated(zoo: Path, demo_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with learned weights and thresholds, from a few drawings of each species."""
    pytest.importorskip("datasets", reason="pip install 'fieldmarks[eval]'")
    import fieldmarks as fm

    folder = tmp_path_factory.mktemp("calibrated")
    for use, count in (("learn", 4), ("calibrate", 6)):
        for name, creature in demo_species().items():
            (folder / use / name).mkdir(parents=True)
            for number in range(count):
                drawing = draw(creature, random.Random(f"{use} {name} {number}"))
                drawing.save(folder / use / name / f"{number}.png")
    learned, file = folder / "learned.safetensors", folder / "calibrated.safetensors"
    options: dict[str, Any] = {"clip": str(demo_clip), "dtype": "float32", "engine": "torch", "cache": False}
    fm.learn(folder / "learn", zoo / "s.jsonl", strength=0.1, **options).save(learned)
    fm.calibrate(folder / "calibrate", classifier=learned, **options).save(file)
    return file
