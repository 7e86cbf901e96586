"""`learn --write-weights` and `classify --use-weights`: the same classifier, or a refusal that says why."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.evaluation.worlds import draw_species
from tests.kit import write_store

import fieldmarks as fm
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError, StoreError, UsageError
from fieldmarks.store import Store
from fieldmarks.store.edits import Stamp
from fieldmarks.store.learned_weights import ClassWeights, of_store, write_weights

METADATA = {"encoder": "e", "template": "{descriptor}", "concept": None, "data": "photos"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of two classes with weights."""
    opened = Store(
        write_store(tmp_path / "frogs.jsonl", {"newt": ["a crest", "a tail"], "frog": ["big eyes"]})
    )
    weights = {
        "newt": ClassWeights({"a crest": 1.5, "a tail": 0.0}, -0.01),
        "frog": ClassWeights({"big eyes": 1}, 0),
    }
    write_weights(opened, weights, METADATA, Stamp(by="ada"))
    return Store(opened.path)


def test_weights_come_back_as_they_were_written(store: Store) -> None:
    found = of_store(store, "e", "{descriptor}", None)
    assert found["newt"] == ClassWeights({"a crest": 1.5, "a tail": 0.0}, -0.01)
    assert json.loads(store.path.read_text().splitlines()[-2])["weights"]["of"]["a crest"] == 1.5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("f", "{descriptor}", None), "learned with another model"),
        (("e", "{class}, {which}", None), "worded as '{descriptor}', not '{class}, {which}'"),
        (("e", "{descriptor}", "food"), "worded as"),
    ],
)
def test_weights_hold_for_their_model_and_wording_alone(
    store: Store, texts: tuple[str, str, str | None], message: str
) -> None:
    with pytest.raises(StoreError, match="^(?s:.)*" + message.replace("{", r"\{").replace("}", r"\}")):
        of_store(store, *texts)


def test_weights_do_not_outlive_the_list(store: Store, runner: CliRunner) -> None:
    assert runner.invoke(main, ["store", "add", str(store.path), "newt", "a red belly"]).exit_code == 0
    with pytest.raises(StoreError, match="class 'newt' has no learned weights: learn again"):
        of_store(Store(store.path), "e", "{descriptor}", None)
    by_hand = [json.loads(line) for line in store.path.read_text().splitlines() if '"weights"' in line]
    for line in by_hand:
        line["descriptors"].append("typed by hand")
    store.path.write_text("".join(json.dumps(line) + "\n" for line in by_hand))
    with pytest.raises(StoreError, match="the list of class 'newt' has changed since its weights"):
        of_store(Store(store.path), "e", "{descriptor}", None)


def test_weights_of_several_times_do_not_mix(store: Store) -> None:
    write_weights(store, {"frog": ClassWeights({"big eyes": 2}, 0)}, METADATA, Stamp(by="ada"))
    with pytest.raises(StoreError, match="learned at several times"):
        of_store(Store(store.path), "e", "{descriptor}", None)
    with pytest.raises(StoreError, match="different list from the one that weights were learned"):
        write_weights(store, {"frog": ClassWeights({"eyes": 2}, 0)}, METADATA, Stamp())


@pytest.mark.slow
def test_the_store_and_the_file_classify_alike(tmp_path: Path, demo_clip: Path, runner: CliRunner) -> None:
    made = Store(draw_species(tmp_path, 4, 10))
    entries = {entry.name: entry.descriptors for entry in made.entries()}
    names = list(entries)
    damaged = {name: (*entries[name][:2], *entries[names[at - 1]][:2]) for at, name in enumerate(names)}
    path, out = write_store(tmp_path / "damaged.jsonl", damaged), tmp_path / "learned.safetensors"
    given = [str(tmp_path / "pictures"), "--store", str(path), "--clip", str(demo_clip), "-o", str(out)]
    for more in ([], ["--descriptors", "3"]):
        result = runner.invoke(
            main, ["learn", *given, "--strength", "0.1", "--write-weights", "--force", *more]
        )
        assert result.exit_code == 0, result.output
        assert "weights written to 4 classes of the store" in result.stderr
        learned = fm.Classifier.load(out)
        kept = fm.Classifier(path, clip=demo_clip, use_weights=True)
        images = [str(image) for image in sorted((tmp_path / "pictures").rglob("*.png"))[:12]]
        for one, other in zip(learned.predict(images), kept.predict(images, explain=True), strict=True):
            logits = {score.name: score.logit for score in one.scores}
            assert {s.name: pytest.approx(s.logit, abs=1e-2) for s in other.scores} == logits
            assert other.explanation is not None
    text = ["--text", "a photo with {descriptor}"]
    shown = runner.invoke(
        main, ["classify", images[0], "--store", str(path), "--clip", str(demo_clip), "--use-weights", *text]
    )
    assert shown.exit_code == 1
    assert "learned with texts worded as '{descriptor}'" in shown.stderr
    plain = fm.Classifier(path, clip=demo_clip)
    assert not plain.head.is_learned  # weights count only where they are asked for
    equal = runner.invoke(main, ["learn", *given, "--strength", "inf", "--write-weights", "--force"])
    assert "no weights written to the store, as they are equal" in equal.stderr
    fm.Store(path).append(fm.Entry("nobody"))
    with pytest.raises(EvaluationError, match="1 class with no descriptors: 'nobody'"):
        fm.learn(tmp_path / "pictures", path, clip=demo_clip, write_weights=True)


def test_what_has_no_place_in_a_store_is_refused(store: Store, tmp_path: Path) -> None:
    for options in ({"shared": True}, {"with_name": True}):
        with pytest.raises(UsageError, match="write_weights goes with a store"):
            fm.learn(tmp_path, store, write_weights=True, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="use_weights goes with a store"):
        fm.Classifier({"a": ["b"]}, use_weights=True)
    with pytest.raises(UsageError, match="use_weights goes with a store"):
        fm.Classifier(store, use_weights=True, aggregate="max-similarity")
