"""The stores that ship keep what the project promises of them."""

from pathlib import Path

import pytest
from tests import shipped_stores

from fieldmarks.paths import shipped_names
from fieldmarks.store import Store


@pytest.mark.parametrize("name", shipped_stores.NAMES)
def test_a_shipped_store_is_clean_and_fits_its_data_sets_labels(name: str) -> None:
    assert list(shipped_stores.problems(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_stores.NAMES)
def test_no_text_of_either_preset_is_cut_by_clip(name: str, check_data: Path) -> None:
    descriptors = {entry.name: entry.descriptors for entry in Store(name).entries()}
    lengths = shipped_stores.token_lengths(descriptors, str(check_data / "clip-tokenizer"))
    assert max(lengths) <= 77


def test_the_check_finds_what_it_looks_for() -> None:
    faulty = {"owl": ["a", "b", "may be big"], "eagle": ["b", "a", "may be big"], "newt": []}
    counted = shipped_stores.figures(faulty)
    assert (counted.shared, counted.equal_lists, counted.hedges, counted.empty) == (1, 2, 2, 1)
    assert shipped_stores.overlapping(faulty) == [("eagle", "owl")]


def test_what_ships() -> None:
    assert shipped_names() == sorted([*shipped_stores.NAMES, "cifar10", "demo", "frogs", "imagenette"])
