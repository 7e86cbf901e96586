"""Measured effects: one change, which alters nothing else and is never shown for another text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, Entry
from fieldmarks.store import Store, edits, queries, undoing
from fieldmarks.store.compare import compact, merge
from fieldmarks.store.descriptor_effects import DescriptorEffect as Effect
from fieldmarks.store.descriptor_effects import Measurement, points, write_effects
from fieldmarks.store.edits import Stamp
from fieldmarks.store.exchange import export_file, import_file, read_file
from fieldmarks.store.lint import lint
from fieldmarks.store.lint_rules import Config

ABOUT = {"data": "pond", "model": "clip", "preset": "article", "pictures": 500}
STAMP = Stamp(by="ada", at="2026-01-02T03:04:05+00:00", change="m1")
FROG = Entry(
    "frog",
    ("webbed feet", "wide mouth"),
    origin=GENERATED,
    model="m",
    prompt={"name": "article", "sha256": "ab"},
    params={"temperature": 0},
    usage={"prompt_tokens": 7},
    answer="- webbed feet",
    rejected=("croaks",),
    by="nobody",
    at="2025-01-01T00:00:00+00:00",
    extra={"theirs": 1},
)
NEWT = Entry("newt", ("crest",), origin=CURATED, note="seen", rejected=("fur",))
EFFECTS = {
    "frog": [
        Effect("webbed feet", 0.01, 0.5, 50),
        Effect("wide mouth", -0.012, -0.25, 50),
    ],
    "newt": [Effect("crest", 0.0, 0.1, 50)],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(FROG, NEWT, Entry("toad", ("warts",)))
    return store


def _frog(store: Store) -> Entry:
    return edits.current_entry(store, "frog")


def _effects(entry: Entry | None) -> dict[str, float]:
    measurement = None if entry is None else Measurement.of(entry)
    if measurement is None:
        return {}
    return {text: effect.effect for text, effect in measurement.effects.items()}


def test_the_line_is_the_current_one_with_what_was_measured(store: Store) -> None:
    changes = write_effects(store, EFFECTS, ABOUT, STAMP)
    assert [(change.name, change.before) for change in changes] == [("frog", FROG), ("newt", NEWT)]
    frog = Store(store.path).get("frog")
    assert frog is not None
    assert replace(frog, v=None, change=None, measured=None) == FROG
    assert frog.measured == {
        "at": "2026-01-02T03:04:05+00:00",
        "data": "pond",
        "model": "clip",
        "preset": "article",
        "pictures": 500,
        "change": "m1",
        "effects": [
            {"descriptor": "webbed feet", "effect": 0.01, "margin": 0.5, "pictures": 50},
            {"descriptor": "wide mouth", "effect": -0.012, "margin": -0.25, "pictures": 50},
        ],
    }
    assert [entry.change for entry in store.history("newt")] == [None, "m1"]
    assert len(store.history("toad")) == 1
    assert store.line_numbers() == {"frog": 4, "newt": 5, "toad": 3}


@pytest.mark.parametrize(
    ("measured", "metadata", "message"),
    [
        ({"frogs": EFFECTS["frog"]}, {}, "has no class 'frogs': did you mean 'frog'"),
        ({"newt": EFFECTS["newt"], "frog": EFFECTS["frog"][:1]}, {}, "class 'frog' has a different list"),
        (
            {"newt": [Effect("Crest", 0, 0, 1)]},
            {},
            "class 'newt' has a different list from the one measured",
        ),
        (
            {"newt": [Effect("crest", float("nan"), 0, 1)]},
            {},
            "class 'newt': 'measured' has the wrong",
        ),
        ({"newt": EFFECTS["newt"]}, {"pictures": None}, "class 'newt': 'measured' has the wrong type"),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    store: Store, measured: dict[str, Sequence[Effect]], metadata: dict[str, object], message: str
) -> None:
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match=message):
        write_effects(store, measured, ABOUT | metadata, STAMP)
    assert store.path.read_bytes() == before


def test_a_generated_line_stays_one_and_newer_answers_come_into_force(store: Store) -> None:
    write_effects(store, EFFECTS, ABOUT, STAMP)
    newer = replace(FROG, descriptors=("new",), model="other")
    store.append(replace(FROG, descriptors=(), origin=FAILED))
    assert _effects(store.get("frog")) != {}
    store.append(newer, replace(NEWT, origin=GENERATED, descriptors=("new",)))
    assert store.get("frog") == newer
    assert _effects(store.get("newt")) == {"crest": 0.0}, "a person's line stays current"


def test_undo_takes_back_all_classes_and_leaves_what_was_there(store: Store) -> None:
    edits.add(store, "newt", ["spots"], Stamp())
    before = [entry.descriptors for entry in store.entries()]
    newt = [Effect(text, 0.1, 0, 50) for text in ("crest", "spots")]
    write_effects(store, EFFECTS | {"newt": newt}, ABOUT, STAMP)
    assert list(undoing.lines_to_undo(store, None)) == ["frog", "newt"]
    undoing.undo(store, None, Stamp())
    assert [(entry.descriptors, entry.measured) for entry in store.entries()] == [
        (texts, None) for texts in before
    ]
    assert list(undoing.lines_to_undo(store, None)) == ["newt"], "the change before comes next"


def test_undo_after_compaction_takes_back_the_measurement_alone(store: Store) -> None:
    edits.drop(store, "frog", ["webbed feet"], Stamp())
    write_effects(store, {"frog": EFFECTS["frog"][1:], "newt": EFFECTS["newt"]}, ABOUT, STAMP)
    compact(store)
    assert [len(store.history(name)) for name in ("frog", "newt")] == [2, 1]
    undoing.undo(store, None, Stamp())
    lists = {entry.name: (entry.descriptors, entry.measured) for entry in store.entries()}
    assert lists == {
        "frog": (("wide mouth",), None),
        "newt": (("crest",), None),
        "toad": (("warts",), None),
    }


def test_an_effect_goes_by_the_exact_text(store: Store) -> None:
    write_effects(store, EFFECTS, ABOUT, STAMP)
    edits.edit(store, [(_frog(store), ["Webbed feet", "wide mouth"])], Stamp())
    assert _effects(store.get("frog")) == {"wide mouth": -0.012}
    measurement = Measurement.of(_frog(store))
    assert measurement is not None
    assert (measurement.changed, measurement.where) == (
        True,
        "500 images of pond, with a list that has changed since",
    )
    edits.drop(store, "frog", ["wide mouth"], Stamp())
    assert _effects(store.get("frog")) == {}
    edits.edit(store, [(_frog(store), FROG.descriptors)], Stamp())
    assert _effects(store.get("frog")) == {"webbed feet": 0.01, "wide mouth": -0.012}, "put back"
    assert _frog(store).origin == CURATED
    edits.rename(store, "frog", "bullfrog", Stamp())
    assert edits.current_entry(store, "bullfrog").measured is None


def test_a_union_has_none_and_another_store_keeps_its_own(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.jsonl", create=True)
    other.append(FROG, replace(NEWT, descriptors=("spots",)))
    write_effects(store, EFFECTS, ABOUT, STAMP)
    for prefer, effects in {"union": {}, "a": {"crest": 0.0}, "b": {}}.items():
        merge(store, other, tmp_path / f"{prefer}.jsonl", prefer, Stamp())
        merged = Store(tmp_path / f"{prefer}.jsonl")
        assert _effects(merged.get("newt")) == effects
    assert _frog(merged).descriptors == FROG.descriptors


def test_a_folder_takes_effects_along_and_plain_lists_do_not(store: Store, tmp_path: Path) -> None:
    write_effects(store, EFFECTS, ABOUT, STAMP)
    for kind, effects in {"folder": _effects(store.get("frog")), "json": {}, "csv": {}}.items():
        export_file(store, tmp_path / kind, kind, license_id="unknown")
        copy = Store(tmp_path / f"{kind}.jsonl", create=True)
        import_file(copy, read_file(tmp_path / kind, kind), Stamp())
        assert _effects(copy.get("frog")) == effects
        undoing.undo(copy, None, Stamp())
        assert len(copy) == 0, "an import is undone whole"


def test_measuring_again_and_counting_tokens_once(store: Store) -> None:
    write_effects(store, EFFECTS, ABOUT, STAMP)
    write_effects(store, {"newt": [Effect("crest", 0.5, 0, 50)]}, ABOUT, Stamp(change="m2"))
    assert _effects(store.get("newt")) == {"crest": 0.5}
    assert queries.stats(store, Config())["tokens"] == 7


def _numbers(entry: Entry, hurts_by: int) -> list[int | None]:
    measurement = lint([entry], Config(hurts_by=hurts_by))
    return [finding.number for finding in measurement if finding.rule.code == "FM501"]


def test_lint_tells_what_hurts_by_a_share_of_the_class(store: Store) -> None:
    write_effects(store, EFFECTS, ABOUT, STAMP)
    (finding,) = lint([_frog(store)])
    assert (finding.rule.code, finding.number, finding.message) == (
        "FM501",
        2,
        "it hurts accuracy where it was measured: -1.2 points on 500 images of pond",
    )
    assert _numbers(_frog(store), 12) == [2], "6 of its class's 50 pictures are 12 %"
    assert _numbers(_frog(store), 13) == []
    assert _numbers(edits.current_entry(store, "newt"), 0) == [], "no picture is lost"


def test_a_class_without_pictures_may_hurt_others() -> None:
    metadata = {
        **ABOUT,
        "at": "",
        "effects": [{"descriptor": "a", "effect": -0.002, "margin": 0, "pictures": 0}],
    }
    assert _numbers(Entry("x", ("a", "b"), measured=metadata), 50) == [1]


@pytest.mark.parametrize(
    ("effect", "shown"),
    [(-0.012, "-1.2"), (0.00004, "+0.004"), (-0.5, "-50"), (-1.0, "-100"), (-0.0, "0"), (None, "")],
)
def test_points(effect: float | None, shown: str) -> None:
    assert points(effect) == shown
