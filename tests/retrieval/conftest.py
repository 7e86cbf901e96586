"""A world of the demo's drawings, embedded once."""

from pathlib import Path

import pytest
from tests.retrieval.worlds import World

from fieldmarks.retrieval.searcher import Searcher


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, demo_clip: Path) -> World:
    """The demo's species, eight drawings of each."""
    pytest.importorskip("pyarrow")
    return World(tmp_path_factory.mktemp("world"), demo_clip)


@pytest.fixture(scope="session")
def demo_set(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of all images of the world; not to be changed."""
    return world.write(tmp_path_factory.mktemp("set") / "demo.emb")


@pytest.fixture(scope="session")
def searcher(world: World, demo_set: Path) -> Searcher:
    """A searcher of that set."""
    return Searcher(demo_set, clip=world.embedder)
