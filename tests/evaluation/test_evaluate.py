"""The demo's world, in which the truth is known: what evaluations of it come to."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.recompute import faults
from tests.evaluation.worlds import draw_species, some_species
from tests.kit import write_store

from fieldmarks.choices import Aggregation, words
from fieldmarks.demo.species import WORDINGS
from fieldmarks.evaluation.evaluate import evaluate
from fieldmarks.evaluation.results import Evaluation
from fieldmarks.store import Store

pytestmark = pytest.mark.slow


def _evaluated(store: Path, images: Path, clip: Path, **more: Any) -> Evaluation:
    return evaluate(Store(store), images, clip=clip, **more)


@pytest.mark.parametrize(("count", "pictures"), [(12, 10), (100, 4)])
def test_true_traits_help_and_chance_does_not(
    tmp_path: Path, demo_clip: Path, count: int, pictures: int
) -> None:
    store = draw_species(tmp_path, count, pictures)
    done = _evaluated(store, tmp_path / "pictures", demo_clip, ablate=True)
    arms = {arm.name: arm for arm in done.arms}
    chance = 1 / count
    photo, described = arms["photo"], arms["descriptors"]
    assert len(done.images) == count * pictures
    assert described.top1.value > 0.9
    assert described.difference is not None
    assert described.difference.low > 0.7
    assert described.difference.p is not None
    assert described.difference.p < 1e-9
    assert photo.top1.low < 2 * chance
    for name in ("waffle", "swapped"):
        assert arms[name].top1.value < 3 * chance
        assert arms[name].top1.high < described.top1.low
        assert [run.seed for run in arms[name].runs] == [0, 1, 2, 3, 4]
    assert done.summary[0].startswith("Descriptors: +")
    assert len(done.effects) == 8 * count
    assert faults(json.loads(json.dumps(done.to_dict()))) == []


def _planted(store: Path, seed: int) -> tuple[str, str]:
    """Give one species a trait that it does not have, and return both."""
    chance = random.Random(seed)
    entries = {entry.name: list(entry.descriptors) for entry in Store(store).entries()}
    name, attribute = chance.choice(list(entries)), chance.choice(list(WORDINGS))
    true = dict(some_species(12)[name].traits())[attribute]
    false = [text for value, texts in WORDINGS[attribute].items() if value != true for text in texts]
    wrong = chance.choice(false)
    entries[name].append(wrong)
    write_store(store.with_name(f"planted-{seed}.jsonl"), entries)
    return name, wrong


# With max-similarity a descriptor that no picture shows is never the highest, and so does no harm.
@pytest.mark.parametrize(
    "aggregate", [aggregation for aggregation in words(Aggregation) if aggregation != "max-similarity"]
)
def test_a_planted_wrong_descriptor_is_among_the_worst(
    tmp_path: Path, demo_clip: Path, aggregate: Any
) -> None:
    store = draw_species(tmp_path, 12, 10)
    options: dict[str, Any] = {"arms": ["photo", "descriptors"], "aggregate": aggregate}
    found = []
    for seed in range(10):
        planted = _planted(store, seed)
        changed = store.with_name(f"planted-{seed}.jsonl")
        done = _evaluated(changed, tmp_path / "pictures", demo_clip, ablate=True, **options)
        found.append(planted in [(effect.name, effect.descriptor) for effect in done.effects[:3]])
    assert sum(found) >= 9


def test_examples_show_where_arms_differ(tmp_path: Path, demo_clip: Path) -> None:
    store = draw_species(tmp_path, 3, 4)
    done = _evaluated(store, tmp_path / "pictures", demo_clip, thumbnails=True)
    arms = {arm.name: arm.runs[0].predicted for arm in done.arms}
    assert 0 < len(done.examples) <= 12
    for example in done.examples:
        at = done.images.index(example.prediction.image)
        assert example.label == done.classes[done.labels[at]] == Path(example.prediction.image).parent.name
        assert example.by == {name: done.classes[predicted[at]] for name, predicted in arms.items()}
        assert example.prediction.explanation is not None
        assert example.prediction.baseline is not None
        assert (example.prediction.thumbnail or b"").startswith(b"\xff\xd8")
