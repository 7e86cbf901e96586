"""The stores that ship keep what the project promises of them."""

import json
from pathlib import Path

import pytest
from tests import shipped_stores

from fieldmarks.data.labels import match
from fieldmarks.paths import shipped_names
from fieldmarks.store import Store


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "imagenet" else [])
        for name in shipped_stores.NAMES
    ],
)
def test_a_shipped_store_is_clean_and_fits_its_data_sets_labels(name: str) -> None:
    assert list(shipped_stores.problems(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_stores.NAMES)
def test_no_text_of_either_preset_is_cut_by_clip(name: str, check_data: Path) -> None:
    descriptors = {entry.name: entry.descriptors for entry in Store(name).entries()}
    lengths = shipped_stores.token_lengths(descriptors, str(check_data / "clip-tokenizer"))
    assert max(lengths) <= 77


@pytest.mark.parametrize("name", ["cifar10", "imagenette"])
def test_the_articles_data_sets_match_too(name: str) -> None:
    store = Store(name)
    for labels in json.loads(shipped_stores.LABELS.read_text("utf-8"))[name].values():
        matching = match(labels, store.names(), ids=store.ids())
        assert len(set(matching.class_of.values())) == len(labels) == 10
        assert matching.folded == ()


def test_the_check_finds_what_it_looks_for() -> None:
    faulty = {"owl": ["a", "b", "may be big"], "eagle": ["b", "a", "may be big"], "newt": []}
    counted = shipped_stores.figures(faulty)
    assert (counted.shared, counted.equal_lists, counted.hedges, counted.empty) == (1, 2, 2, 1)
    assert shipped_stores.overlapping(faulty) == [("eagle", "owl")]


def test_what_ships() -> None:
    assert shipped_names() == sorted([*shipped_stores.NAMES, "cifar10", "demo", "frogs", "imagenette"])
