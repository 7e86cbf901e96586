"""`fieldmarks.evaluate` and `what_if` from Python, on a tiny model: options, texts, errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.evaluation.recompute import faults
from tests.kit import write_store

import fieldmarks as fm
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.results import Progress
from fieldmarks.classification.texts import descriptor_texts
from fieldmarks.cli.render.evaluation import lines
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.evaluation.what_if import what_if
from fieldmarks.report import evaluation_page

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
        ({"arms": ["photo"], "preset": "paper"}, "--preset has no effect"),
        ({"arms": ["photo"], "aggregate": "max-similarity"}, "--aggregate has no effect"),
        ({"text": "{descriptor}", "preset": ["article", "paper"]}, "--text replaces a preset's"),
        ({"streaming": True}, "streaming is for data sets on the hub"),
    ],
)
def test_options_that_cannot_be(store: fm.Store, photos: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        fm.evaluate(store, photos, clip="none", **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("option", ["concept", "sentences", "templates"])
def test_a_saved_classifier_has_no_arm_of_other_texts(photos: Path, option: str) -> None:
    value = ["{class}"] if option == "templates" else "bird"
    with pytest.raises(UsageError, match=f"--{option} goes with --store"):
        fm.evaluate(dataset=photos, classifier="none", **{option: value})  # type: ignore[arg-type]


def test_repeats_are_no_evidence(store: fm.Store, photos: Path, tiny_clip: Path) -> None:
    """The same images three times over: figures of all, intervals and p of the distinct ones."""
    options: dict[str, Any] = {"clip": tiny_clip, "seeds": 2, "aggregate": "mean-similarity"}
    single = fm.evaluate(store, photos, **options)
    for path in sorted(photos.rglob("*.png")):
        for copy in ("x", "y"):
            shutil.copy(path, path.with_name(f"{path.stem}{copy}.png"))
    result = fm.evaluate(store, photos, **options)
    assert (len(result.images), len(result.distinct), len(result.repeats)) == (18, 6, 6)
    assert [[Path(result.images[at]).stem[0] for at in group] for group in result.repeats] == [
        [Path(result.images[group[0]]).stem[0]] * 3 for group in result.repeats
    ]
    for arm, before in zip(result.arms, single.arms, strict=True):
        assert (arm.top1, arm.mean_per_class, arm.difference) == (
            before.top1,
            before.mean_per_class,
            before.difference,
        )
    assert faults(json.loads(json.dumps(result.to_dict()))) == []
    notices = " ".join(result.notices)
    assert "images that repeat another of their class, byte for byte: 12, such as " in notices
    assert "6 of 18 images are distinct: intervals and p count an image of one class once" in notices
    assert result.summary[-1] == "6 distinct images are few: only a large difference can show."
    (first, *_) = lines(result)
    assert first == "18 images (6 distinct), 3 classes; accuracy in %, 95% CI in brackets"
    page = evaluation_page.html(result)
    assert "Evaluation of 18 images (6 distinct) in 3 classes" in page
    assert "6 of 18 images are distinct" in page


def test_a_class_without_descriptors_is_measured_as_it_is_classified(
    store: fm.Store, photos: Path, tiny_clip: Path
) -> None:
    path = write_store(store.path.with_name("empty.jsonl"), {**LISTS, "newt": []})
    for preset in ("article", "paper"):
        options: dict[str, Any] = {"clip": tiny_clip, "preset": preset}
        result = fm.evaluate(path, photos, arms=["descriptors"], ablate=True, **options)
        classifier = fm.Classifier(path, **options)
        labels = [prediction.label for prediction in classifier.predict(list(result.images))]
        assert labels == [result.classes[number] for number in result.arm.runs[0].predicted]
        assert "newt" not in {effect.name for effect in result.effects}
        (alone,) = (effect for effect in result.effects if effect.name == "toad")  # its only descriptor
        dropped = what_if(path, "toad", photos, drop=["warts"], **options)
        assert alone.effect == pytest.approx(dropped.before - dropped.after)
    with_one = what_if(path, "newt", photos, add=["a long tail"], clip=tiny_clip)
    assert with_one.after == fm.evaluate(store, photos, arms=["descriptors"], clip=tiny_clip).arm.top1.value


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
