"""Searching: what is found shows what was looked for, and nothing comes of nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.kit import write_store
from tests.retrieval.worlds import World, species_of

import fieldmarks as fm
from fieldmarks.classification.texts import random_texts
from fieldmarks.demo.species import demo_species, entry, is_true_of
from fieldmarks.errors import FieldmarksError, ImageError, ModelError, UsageError
from fieldmarks.retrieval.searcher import Hit, Searcher, SearchResult

pytestmark = pytest.mark.slow  # a model is loaded


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the true descriptors of the demo's species."""
    path = tmp_path_factory.mktemp("store") / "s.jsonl"
    return write_store(path, {name: list(entry(name)) for name in demo_species()})


def _shares(result: SearchResult, wanted: Sequence[str], per_species: int) -> tuple[float, float]:
    """Return precision and recall of a result, of which the images of some species should be."""
    good = sum(species_of(hit.image) in wanted for hit in result)
    return good / max(len(result), 1), good / (per_species * len(wanted))


def test_descriptors_find_the_images_that_show_them(searcher: Searcher, world: World, store: Path) -> None:
    shares = []
    for descriptor in sorted({text for name in demo_species() for text in entry(name)}):
        wanted = [name for name, creature in demo_species().items() if is_true_of(descriptor, creature)]
        shares.append(_shares(searcher.find(descriptor=descriptor, store=store), wanted, world.per_species))
    precision, recall = np.mean(shares, axis=0)
    assert precision >= 0.95
    assert recall >= 0.8


def test_classes_are_found_by_their_descriptors(searcher: Searcher, world: World, store: Path) -> None:
    shares = [
        _shares(searcher.find(class_name=name, store=store), [name], world.per_species)
        for name in demo_species()
    ]
    precision, recall = np.mean(shares, axis=0)
    assert precision >= 0.95
    assert recall >= 0.95


def test_texts_about_nothing_find_nothing(searcher: Searcher) -> None:
    results = [searcher.find(text) for text in random_texts(300, "of the test")]
    assert sum(bool(len(result)) for result in results) <= 0.05 * len(results)
    nothing = next(result for result in results if not len(result))
    assert nothing.unmatched == (nothing.query.strip("'"),)
    assert (nothing.matched, nothing.total) == (0, 96)


def test_what_is_found_by_a_text_shows_it(searcher: Searcher) -> None:
    result = searcher.find("bright red skin")
    shown = {species_of(hit.image) for hit in result}
    red = {name for name, creature in demo_species().items() if creature.colour == "red"}
    assert red
    assert shown == red
    assert [hit.rank for hit in result] == list(range(1, len(result) + 1))
    assert sorted((hit.score for hit in result), reverse=True) == [hit.score for hit in result]


def test_scores_are_z_scores_over_the_set(searcher: Searcher) -> None:
    result = searcher.find("bright red skin", show_all=True)
    scores = np.array([hit.score for hit in result])
    assert len(scores) == 96
    assert (abs(scores.mean()) < 1e-4, scores.std()) == (True, pytest.approx(1, abs=1e-4))
    text = searcher.embedder.texts(["bright red skin"])[0]
    cosines = searcher.embeddings.vectors @ (text / np.linalg.norm(text))
    expected = dict(zip(searcher.embeddings.images, (cosines - cosines.mean()) / cosines.std(), strict=True))
    np.testing.assert_allclose(scores, [expected[hit.image] for hit in result], atol=1e-4)
    both = searcher.find(["bright red skin", "two pointed horns"], exclude="a forked tail", show_all=True)
    assert np.std([hit.score for hit in both]) == pytest.approx(1, abs=1e-4)


def test_the_order_is_that_of_an_exhaustive_search(searcher: Searcher) -> None:
    every = searcher.find("three eyes", show_all=True)
    first = searcher.find("three eyes", show_all=True, top=7)
    assert first.hits == every.hits[:7]
    assert first.matched == every.matched


def test_excluded_texts_are_not_shown(searcher: Searcher) -> None:
    species = demo_species()
    result = searcher.find("bright red skin", exclude="two pointed horns")
    horned = {name for name, creature in species.items() if creature.ornament == "horns"}
    assert not {species_of(hit.image) for hit in result} & horned
    assert result.query == "'bright red skin' and not 'two pointed horns'"


def test_an_image_finds_its_like(searcher: Searcher, world: World) -> None:
    result = searcher.find(like=world.images[0])
    assert result.hits[0].image == str(world.images[0])
    assert {species_of(hit.image) for hit in result} == {species_of(str(world.images[0]))}
    opened = Image.open(world.images[0])
    assert [hit.image for hit in searcher.find(like=[opened])] == [hit.image for hit in result]


def test_labels_that_disagree(searcher: Searcher, world: World, store: Path) -> None:
    name = "zorblat"
    wrong = next(str(path) for path in world.images if species_of(str(path)) == name)
    labels = {str(path): species_of(str(path)) for path in world.images} | {wrong: "vontle"}
    found = searcher.find(class_name=name, store=store, labels=labels, disagree=True)
    assert (wrong, "vontle") in [(hit.image, hit.label) for hit in found]
    assert name not in [hit.label for hit in found]
    listed = searcher.find(class_name=name, store=store, labels=world.folder / "pictures")
    assert {hit.label for hit in listed} >= {name}


def test_results_as_data(searcher: Searcher) -> None:
    result = searcher.find("bright red skin", top=2)
    assert SearchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert list(result.to_pandas().columns) == ["rank", "image", "score"]
    assert "<table>" in result._repr_html_()
    assert Hit.from_dict({"rank": 1, "image": "a", "score": 2.0, "label": "b"}).label == "b"
    hostile = SearchResult("<b>", (Hit(1, "<script>", 0.0),), 1, 1)
    assert "<script>" not in hostile._repr_html_()
    assert "<b>" not in hostile._repr_html_()


def test_the_calibration_is_kept_and_follows_the_set(world: World, tmp_path: Path) -> None:
    out = world.write(tmp_path / "set", world.images[:40])
    first = Searcher(out, clip=world.embedder).find("three eyes")
    file = out / "calibration.npz"
    stamp = file.stat().st_mtime_ns
    assert Searcher(out, clip=world.embedder).find("three eyes") == first
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(file.read_bytes()[:-50])  # damaged: computed anew
    assert Searcher(out, clip=world.embedder).find("three eyes") == first
    world.write(out, world.images[40:])
    assert Searcher(out, clip=world.embedder).find("three eyes").total == 96


def test_another_model_is_refused(world: World, demo_set: Path, tiny_clip: Path) -> None:
    with pytest.raises(
        ModelError, match=r"was made with .*, and its texts would be read by .*: pass the same"
    ):
        Searcher(demo_set, clip=tiny_clip)
    manifest = json.loads((demo_set / "manifest.json").read_text())
    assert manifest["fingerprint"] == world.embedder.encoder.provenance["fingerprint"]


def test_sets_without_a_manifest(world: World, demo_set: Path, tmp_path: Path) -> None:
    vectors, images = fm.EmbeddingSet(demo_set).vectors, fm.EmbeddingSet(demo_set).images
    np.savez(tmp_path / "a.npz", embeddings=3 * vectors, images=np.array(images))
    with pytest.raises(UsageError, match="does not say which model made it: name it"):
        Searcher(tmp_path / "a.npz")
    found = Searcher(tmp_path / "a.npz", clip=world.embedder).find("bright red skin")
    expected = Searcher(demo_set, clip=world.embedder).find("bright red skin")
    assert [hit.image for hit in found] == [hit.image for hit in expected]
    np.savez(tmp_path / "b.npz", embeddings=vectors[:, :10])
    with pytest.raises(
        ModelError, match=r"has embeddings of 10 numbers, and .* makes 64: pass the set's model"
    ):
        Searcher(tmp_path / "b.npz", clip=world.embedder).find("x")


def test_rows_that_are_no_vectors_are_never_found(world: World, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    rows[3], rows[7, 1], rows[9, 0] = 0, np.nan, np.inf
    np.savez(tmp_path / "a.npz", embeddings=rows)
    result = Searcher(tmp_path / "a.npz", clip=world.embedder).find("three eyes", show_all=True)
    assert result.total == len(result) == 37
    assert np.isfinite([hit.score for hit in result]).all()
    assert not {hit.image.rpartition("#")[2] for hit in result} & {"3", "7", "9"}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_sets_of_next_to_nothing(world: World, tmp_path: Path, count: int) -> None:
    out = world.write(tmp_path / "set", world.images[:count])
    result = Searcher(out, clip=world.embedder).find("three eyes", show_all=True)
    assert (result.total, len(result)) == (count, count)
    assert len(Searcher(out, clip=world.embedder).find(like=world.images[0])) <= count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "there is nothing to search for: pass a text"),
        ({"texts": "  "}, "a text to search for is empty: '  '"),
        ({"exclude": "snow"}, "there is nothing to search for"),
        ({"texts": "x", "top": 0}, "top: expected at least 1, found 0"),
        ({"class_name": "newt"}, "a class or descriptor and the store that has it go together"),
        ({"texts": "x", "store": "s.jsonl"}, "a class or descriptor and the store that has it go together"),
        (
            {"texts": "x", "disagree": True},
            "disagree compares labels with one class or one text: pass labels",
        ),
        ({"texts": ["x", "y"], "disagree": True, "labels": {"a": "b"}}, "disagree compares labels with one"),
        ({"like": "none.png"}, "none.png: cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_searched_for(searcher: Searcher, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldmarksError) as caught:
        searcher.find(**arguments)
    assert str(caught.value).startswith(message)


def test_what_a_store_does_not_have(searcher: Searcher, store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no class 'unicorn'"):
        searcher.find(class_name="unicorn", store=store)
    with pytest.raises(UsageError, match="has the descriptor 'wheels'"):
        searcher.find(descriptor="wheels", store=store)
    alone = write_store(tmp_path / "alone.jsonl", {"zorblat": ["three eyes"]})
    with pytest.raises(UsageError, match="has no other class whose descriptors could be compared"):
        searcher.find(descriptor="three eyes", store=alone)


def test_from_python_in_one_call(world: World, demo_set: Path) -> None:
    result = fm.search(demo_set, "bright red skin", clip=world.embedder, top=3)
    assert len(result) == 3
    with pytest.raises(UsageError, match="unknown option 'topp'"):
        fm.search(demo_set, "x", topp=3)  # type: ignore[call-arg]
    with pytest.raises(ImageError, match="no such file or folder of embeddings"):
        fm.search("nowhere", "x")


def test_texts_over_the_limit_are_told(searcher: Searcher, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "fieldmarks"):
        searcher.find("three eyes " * 60)
    assert "longer than 77 tokens" in caplog.text
