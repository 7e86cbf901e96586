"""Four things pass no more modules and kinds of records on their way through the program than they did."""

from pathlib import Path

import pytest
from tests.traces import COMMANDS, MOST, make_world, trace


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder."""
    folder = tmp_path_factory.mktemp("traces") / "creatures"
    make_world(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("thing", COMMANDS)
def test_a_way_through_the_program_has_not_grown(world: Path, thing: str) -> None:
    modules, kinds = trace(thing, world)
    most_modules, most_kinds = MOST[thing]
    assert len(modules) <= most_modules, sorted(modules)
    assert len(kinds) <= most_kinds, sorted(kinds)
    assert {"fieldmarks.cli.root", "fieldmarks.store.file", "fieldmarks.records"} <= modules
