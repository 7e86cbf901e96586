"""The texts of each arm, from a store's classes and from a saved classifier."""

from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.worlds import problem

from fieldmarks.classification.scoring import Head
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.arms import (
    NAMES,
    SHIPPED_TEMPLATES,
    Arm,
    EvaluationConfig,
    arms_of,
    arms_of_head,
    read_templates,
)

CLASSES = {
    "tree frog": ["protruding eyes", "a wide mouth", "sticky toe pads"],
    "owl": ["big eyes", "a hooked beak"],
    "newt": ["a long tail"],
}


def _arms(**config: object) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms_of(CLASSES, EvaluationConfig(**config))}  # type: ignore[arg-type]


def _texts(arm: Arm, trial: int = 0) -> list[str]:
    return list(arm.trials[trial].texts.texts)


def test_arms_of_names() -> None:
    arms = _arms(arms=("name", "photo", "concept"), concept="pond dweller")
    assert _texts(arms["name"]) == ["tree frog", "owl", "newt"]
    assert _texts(arms["photo"]) == ["a photo of a tree frog", "a photo of a owl", "a photo of a newt"]
    assert _texts(arms["concept"])[1] == "a photo of a pond dweller: a owl"
    assert arms["concept"].text == "a photo of a pond dweller: a {class}"


def test_templates_are_put_together_class_by_class() -> None:
    arm = _arms(arms=("templates",), templates=("{class}!", "{article} {class}"))["templates"]
    assert _texts(arm) == ["tree frog!", "a tree frog", "owl!", "an owl", "newt!", "a newt"]
    assert arm.trials[0].texts.owner == (0, 0, 1, 1, 2, 2)
    assert arm.aggregate == "mean-unit-embedding"
    assert len(_texts(_arms(arms=("templates",))["templates"])) == 3 * len(read_templates(SHIPPED_TEMPLATES))


def test_several_ways_have_names_of_their_own() -> None:
    assert list(_arms(arms=("descriptors",))) == ["descriptors"]
    both = ("article", "paper")
    assert list(_arms(arms=("descriptors",), presets=both)) == ["descriptors article", "descriptors paper"]
    arms = _arms(arms=("descriptors",), presets=both, aggregates=("max-similarity", "mean-similarity"))
    assert [(arm.name, arm.aggregate) for arm in arms.values()][1:3] == [
        ("descriptors article mean-similarity", "mean-similarity"),
        ("descriptors paper max-similarity", "max-similarity"),
    ]


def test_random_words_stand_beside_the_name() -> None:
    arm = _arms(arms=("waffle",), seeds=3)["waffle"]
    assert [trial.seed for trial in arm.trials] == [0, 1, 2]
    assert [trial.texts.owner for trial in arm.trials] == [(0, 0, 0, 1, 1, 2)] * 3
    begun = ["a photo of a tree frog, which has "] * 3 + ["a photo of a owl, which has "] * 2
    assert all(text.startswith(start) for text, start in zip(_texts(arm), begun, strict=False))
    assert arm.text == "a photo of a {class}, which has {random}"
    assert _texts(arm, 0) != _texts(arm, 1)
    paper = _arms(arms=("waffle",), presets=("paper",))["waffle"]
    assert (paper.text, paper.aggregate) == ("{class}, which has {random}", "mean-similarity")
    assert _texts(paper)[0].startswith("tree frog, which ")


def test_with_the_paper_names_stay_and_lists_move() -> None:
    arm = _arms(arms=("swapped",), presets=("paper",), seeds=1)["swapped"]
    for owner, text in zip(arm.trials[0].texts.owner, _texts(arm), strict=True):
        name = list(CLASSES)[owner]
        assert text.startswith(f"{name}, which ")
        assert not any(text.endswith(descriptor) for descriptor in CLASSES[name])


def test_sentences_are_another_stores() -> None:
    sentences = {name: [f"a photo of {name} by day", f"{name} at night"] for name in CLASSES}
    arm = _arms(arms=("sentences",), sentences=sentences | {"crow": ["black"]})["sentences"]
    assert _texts(arm) == [text for name in CLASSES for text in sentences[name]]
    with pytest.raises(EvaluationError, match="lacks 1 of 3 classes, 'newt' first"):
        _arms(arms=("sentences",), sentences={**sentences, "newt": []})


def test_arms_come_in_one_order() -> None:
    wanted = NAMES[::-1]
    arms = _arms(arms=wanted, concept="animal", sentences=CLASSES)
    assert tuple(arms) == NAMES


def test_a_lone_class_has_no_random_arm() -> None:
    with pytest.raises(EvaluationError, match="the arm swapped needs two classes"):
        list(arms_of({"owl": ["big eyes"], "newt": []}, EvaluationConfig(arms=("swapped",))))


@pytest.mark.parametrize(
    ("content", "said"),
    [("\n# none\n", "has no template"), ("a photo\n", "does not contain {class}")],
)
def test_templates_that_are_none(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "templates.txt").write_text(content)
    with pytest.raises(EvaluationError) as raised:
        read_templates(tmp_path / "templates.txt")
    assert said in str(raised.value)


def _head(baseline: bool = True) -> Head:
    posed = problem([3, 1, 2], 1, seed=0)
    return Head(posed.texts, posed.rows, 20.0, baseline=posed.names if baseline else None)


def test_a_saved_classifier_exchanges_its_embeddings() -> None:
    head = _head()
    arms, notices = arms_of_head(head, EvaluationConfig(seeds=4))
    assert [arm.name for arm in arms] == ["photo", "descriptors", "swapped"]
    assert notices == ["a saved classifier has no arm waffle: it needs texts that are not in it"]
    for trial in arms[2].trials:
        assert trial.rows is not None
        assert list(trial.texts.owner) == sorted(trial.texts.owner)
        for owner, text, row in zip(trial.texts.owner, trial.texts.texts, trial.rows, strict=True):
            before = head.texts.texts.index(text)
            assert head.texts.owner[before] != owner
            assert (row == head.embeddings[before]).all()


def test_prompts_of_a_name_stay_with_it() -> None:
    known = {"owl": ["big eyes"], "newt": ["a photo of a newt"], "toad": ["warts", "a photo of a toad"]}
    texts = Texts.collect({name: [(text, text) for text in listed] for name, listed in known.items()})
    head = Head(texts, np.eye(4, dtype=np.float32), 20.0)
    arms, notices = arms_of_head(head, EvaluationConfig(seeds=2))
    assert [arm.name for arm in arms] == ["descriptors", "swapped"]
    assert notices[0] == "a saved classifier has no arm photo: it was saved without a baseline"
    for trial in arms[1].trials:
        moved = dict(zip(trial.texts.texts, trial.texts.owner, strict=True))
        assert moved == {"warts": 0, "a photo of a newt": 1, "big eyes": 2, "a photo of a toad": 2}


def test_names_do_not_move() -> None:
    texts = Texts.collect({name: [("big eyes", f"{name}, which has big eyes")] for name in ("owl", "newt")})
    arms, notices = arms_of_head(Head(texts, np.eye(2, dtype=np.float32), 20.0), EvaluationConfig())
    assert [arm.name for arm in arms] == ["descriptors"]
    assert "its texts cannot be shuffled" in notices[-1]
