"""Four things pass no more modules and kinds of records on their way through the program than they did."""

from pathlib import Path

import pytest
from tests.traces import COMMANDS, MOST, trace


@pytest.mark.slow
@pytest.mark.parametrize("thing", COMMANDS)
def test_a_way_through_the_program_has_not_grown(creatures: Path, thing: str) -> None:
    modules, kinds = trace(thing, creatures)
    most_modules, most_kinds = MOST[thing]
    assert len(modules) <= most_modules, sorted(modules)
    assert len(kinds) <= most_kinds, sorted(kinds)
    assert {"fieldmarks.cli.root", "fieldmarks.store.file", "fieldmarks.records"} <= modules
