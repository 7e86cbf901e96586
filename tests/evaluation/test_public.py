"""`fieldmarks.evaluate` and `what_if` from Python, on a tiny model: options, texts, errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.kit import write_store

import fieldmarks as fm
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.texts import descriptor_texts
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.evaluation.predictions import Progress
from fieldmarks.evaluation.what_if import what_if

LISTS = {"owl": ["big eyes", "a hooked beak"], "newt": ["a long tail"], "toad": ["warts"]}


@pytest.fixture
def store(tmp_path: Path) -> fm.Store:
    """A store of three classes, with two images of each beside it."""
    path = write_store(tmp_path / "store.jsonl", LISTS)
    for number in range(6):
        folder = tmp_path / "photos" / list(LISTS)[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        colour = (40 * number, 255 - 40 * number, 9 * number)
        Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
    return fm.Store(path)


@pytest.fixture
def photos(store: fm.Store) -> Path:
    """The folder of the images."""
    return store.path.parent / "photos"


def test_it_is_saved_and_loaded(store: fm.Store, photos: Path, tiny_clip: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = fm.evaluate(
        store, photos, clip=tiny_clip, arms=["photo", "descriptors"], ablate=True, progress=seen.append
    )
    assert [arm.name for arm in result.arms] == ["photo", "descriptors"]
    assert [arm.role for arm in result.arms] == ["baseline", "subject"]
    assert [(progress.done, progress.total) for progress in seen] == [(n, 6) for n in range(1, 7)]
    assert len(result.effects) == 4
    result.save(tmp_path / "run.json")
    assert fm.Evaluation.load(tmp_path / "run.json") == result
    assert fm.evaluate(store, photos, clip=tiny_clip, arms=["photo", "descriptors"], ablate=True) == result


def test_what_is_measured_is_what_classifies(store: fm.Store, photos: Path, tiny_clip: Path) -> None:
    """Texts are those of `classify --text … --with-name --concept …`, also of the controls."""
    template = "a photo of a {concept}, {class}, with {descriptor}"
    result = fm.evaluate(
        store, photos, clip=tiny_clip, text=template, with_name=True, concept="beast", seeds=2
    )
    arms = {arm.name: arm for arm in result.arms}
    assert list(arms) == ["photo", "concept", "descriptors", "waffle", "swapped"]
    texts = descriptor_texts(LISTS, template, concept="beast", with_name=True).texts
    assert arms["descriptors"].texts == texts[:3]
    assert texts[2] == "a photo of a owl"
    assert arms["waffle"].texts[0].startswith("a photo of a beast, owl, with ")
    assert "a photo of a owl" in arms["waffle"].texts
    assert arms["swapped"].texts[0].startswith("a photo of a beast, owl, with ")
    assert result.settings["wanted"]["text"] == template
    assert result.settings["wanted"]["with_name"] is True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arms": ["photo", "descriptor"]}, "unknown arm 'descriptor' (did you mean 'descriptors'?)"),
        ({"preset": "papr"}, "preset: expected article or paper, found 'papr' (did you mean 'paper'?)"),
        ({"aggregate": "mean"}, "aggregate: expected mean-embedding, "),
        ({"arms": ["concept"]}, "the arm concept needs --concept"),
        ({"arms": []}, "name at least one arm"),
        ({"seeds": 0}, "seeds: expected 1 to 1,000, found 0"),
        ({"arms": ["photo"], "seeds": 3}, "--seeds has no effect"),
        ({"arms": ["photo"], "text": "{descriptor}"}, "--text has no effect"),
        ({"arms": ["photo"], "with_name": True}, "--with-name has no effect"),
        ({"text": "{descriptor}", "preset": ["article", "paper"]}, "--text replaces a preset's"),
        ({"streaming": True}, "streaming is for data sets on the hub"),
    ],
)
def test_options_that_cannot_be(store: fm.Store, photos: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        fm.evaluate(store, photos, clip="none", **options)
    assert said in str(caught.value)


def test_what_is_evaluated_is_named_once(store: fm.Store, photos: Path) -> None:
    with pytest.raises(UsageError, match="give either --store or --classifier"):
        fm.evaluate(dataset=photos)
    with pytest.raises(UsageError, match="pass a DATASET, or --image-embeddings"):
        fm.evaluate(store)
    with pytest.raises(TypeError):
        fm.evaluate(store, photos, agregate="mean-embedding")  # type: ignore[call-arg]


def test_an_encoder_has_its_own_options(store: fm.Store, photos: Path, tiny_clip: Path) -> None:
    with pytest.raises(UsageError, match="device has no effect: clip is an Encoder that has its own"):
        fm.evaluate(store, photos, clip=Encoder(tiny_clip), device="cpu")


def test_a_data_set_is_opened_as_it_is_evaluated(store: fm.Store, photos: Path) -> None:
    assert fm.open_dataset(photos).labels() == dict.fromkeys(LISTS, 2)
    assert len(list(fm.open_dataset(photos, limit=2))) == 2
    with pytest.raises(EvaluationError, match="no such file or folder"):
        fm.open_dataset(photos / "none")


def test_what_if_a_class_had_other_descriptors(store: fm.Store, photos: Path, tiny_clip: Path) -> None:
    before = store.path.read_bytes()
    result = what_if(store, "owl", photos, add=["warts"], drop=["1"], clip=tiny_clip)
    assert store.path.read_bytes() == before
    assert (result.added, result.dropped) == (("warts",), ("big eyes",))
    assert result.descriptors == ("a hooked beak", "warts")
    old = fm.evaluate(store, photos, clip=tiny_clip, arms=["descriptors"])
    assert (result.images, result.before) == (6, old.arm.top1.value)
    changed = store.path.with_name("changed.jsonl")
    changed.write_text(before.decode() + json.dumps({"class": "owl", "descriptors": result.descriptors}))
    new = fm.evaluate(fm.Store(changed), photos, clip=tiny_clip, arms=["descriptors"])
    assert result.after == new.arm.top1.value
    flipped = old.arm.runs[0].predicted != new.arm.runs[0].predicted
    assert len(result.flips) == int(flipped.sum())
    worded = what_if(store, "owl", photos, drop=["1"], clip=tiny_clip, text="{class}: {descriptor}")
    assert worded.dropped == ("big eyes",)


def test_changes_that_cannot_be(store: fm.Store, photos: Path, tiny_clip: Path) -> None:
    with pytest.raises(UsageError, match="pass a change"):
        what_if(store, "owl", photos)
    with pytest.raises(UsageError, match="--concept has no effect"):
        what_if(store, "owl", photos, drop=["1"], concept="bird")
    with pytest.raises(EvaluationError, match="has these descriptors already"):
        what_if(store, "owl", photos, add=["big eyes"], clip=tiny_clip)
