"""The texts of each arm, from a store's classes and from a saved classifier."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.worlds import problem

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Pooling, normalize
from fieldmarks.classification.texts import Texts, descriptor_texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.arms import (
    NAMES,
    SHIPPED_TEMPLATES,
    Arm,
    EvaluationConfig,
    arms_of,
    arms_of_head,
    descriptors_of,
    read_templates,
)
from fieldmarks.evaluation.experiment import Candidate

if TYPE_CHECKING:
    from fieldmarks.classification.embedder import Embedder

CLASSES = {
    "tree frog": ["protruding eyes", "a wide mouth", "sticky toe pads"],
    "owl": ["big eyes", "a hooked beak"],
    "newt": ["a long tail"],
}


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> Encoder:
    """A model of random weights, loaded once."""
    return Encoder(tiny_clip)


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
    arm = _arms(arms=("random-words",), seeds=3)["random-words"]
    assert [trial.seed for trial in arm.trials] == [0, 1, 2]
    assert [trial.texts.owner for trial in arm.trials] == [(0, 0, 0, 1, 1, 2)] * 3
    begun = ["a photo of a tree frog, which "] * 3 + ["a photo of a owl, which "] * 2
    assert all(text.startswith(start) for text, start in zip(_texts(arm), begun, strict=False))
    assert arm.text == "a photo of a {class}, which has {random}"
    assert _texts(arm, 0) != _texts(arm, 1)


@pytest.mark.parametrize(
    ("options", "text", "begun", "ended"),
    [
        ({"presets": ("paper",)}, "{class}, which has {random}", "{}, which ", ""),
        ({}, "a photo of a {class}, which has {random}", "a photo of a {}, which ", ""),
        ({"text": "{descriptor} of a {class}"}, "{random} of a {class}", "", " of a {}"),
        ({"text": "{class}, {which}."}, "{class}, which has {random}.", "{}, which ", "."),
    ],
)
def test_every_class_reads_the_same_random_texts(
    options: dict[str, object], text: str, begun: str, ended: str
) -> None:
    """With the class name where the texts of descriptors have it; also a class without descriptors."""
    config = EvaluationConfig(arms=("waffle",), seeds=2, **options)  # type: ignore[arg-type]
    (arm,) = arms_of(CLASSES | {"sea_cow": []}, config)
    assert arm.text == text
    assert _texts(arm, 0) != _texts(arm, 1)
    for trial in arm.trials:
        assert trial.texts.owner == tuple(row // 30 for row in range(120))
        shared = []
        for owner, said in zip(trial.texts.owner, trial.texts.texts, strict=True):
            name = trial.texts.classes[owner].replace("_", " ")
            start, end = begun.format(name), ended.format(name)
            assert said.startswith(start)
            assert said.endswith(end)
            shared.append(said.removeprefix(start).removesuffix(end))
        assert shared == shared[:30] * 4


def test_the_name_stands_apart_where_it_does_for_descriptors() -> None:
    (arm,) = arms_of(CLASSES, EvaluationConfig(arms=("waffle",), seeds=1, with_name=True))
    assert arm.text == "{random}"
    texts = np.array(_texts(arm)).reshape(3, 31)
    assert (texts[:, :30] == texts[0, :30]).all()
    assert texts[:, 30].tolist() == [f"a photo of a {name}" for name in CLASSES]


@settings(max_examples=30)
@given(
    classes=st.dictionaries(
        st.text("ab_ ", min_size=1), st.lists(st.text("cde ", min_size=1), max_size=3), min_size=1
    ),
    preset=st.sampled_from(["article", "paper"]),
    template=st.sampled_from(
        [None, "{class}, {which}.", "{article} {class} with {descriptor}", "{concept}: {which}"]
    ),
    with_name=st.booleans(),
)
def test_what_is_measured_is_what_is_classified(
    encoder: Encoder, classes: dict[str, list[str]], preset: Any, template: str | None, with_name: bool
) -> None:
    concept = "animal" if template and "{concept}" in template else None
    config = EvaluationConfig(
        arms=("descriptors",), presets=(preset,), text=template, with_name=with_name, concept=concept
    )
    (arm,) = arms_of(classes, config)
    classifier = Classifier(
        classes,
        clip=encoder,
        preset=preset,
        text=template,
        with_name=with_name,
        concept=concept,
    )
    assert classifier.head.texts == arm.trials[0].texts
    assert classifier.head.pooling.name == arm.aggregate


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


def test_a_learned_classifier_is_read_as_it_has_learned() -> None:
    plain = _head()
    weights = np.abs(np.random.default_rng(0).standard_normal((3, 6))).astype(np.float32)
    pooling = Pooling.named("mean-similarity", weights)
    images = normalize(np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32))
    bias = np.array([0.2, 0, -0.1], np.float32)
    for head in (
        replace(plain, pooling=pooling),
        replace(plain, bias=bias),
        replace(plain, pooling=pooling, bias=bias, temperature=0.02),
        replace(plain, pooling=Pooling.named("max-similarity"), bias=bias),
    ):
        candidate = Candidate(descriptors_of(head), {}, cast("Embedder", None), head)
        arms, notices = arms_of_head(head, EvaluationConfig())
        assert [arm.name for arm in arms] == ["photo", "descriptors"]
        assert notices[-1] == "a saved classifier has no arm swapped: its texts have learned weights"
        scores = candidate.scorer(arms[1], arms[1].trials[0])(images)
        assert candidate.logit_scale * scores == pytest.approx(head.logits(images), abs=1e-4)


@pytest.mark.parametrize("template", ["{descriptor}", "{class}, {which}", "{class}, {which}."])
def test_a_saved_classifier_knows_its_descriptors(template: str) -> None:
    lists = {"sea_cow": ["a paddle tail"], "owl": []}
    texts = descriptor_texts(lists, template, with_name=True)
    rows = np.eye(len(texts.texts), dtype=np.float32)
    assert descriptors_of(Head(texts, rows, 20.0, metadata={"preset": "article", "text": template})) == lists
    old = Texts.collect({"sea_cow": [("flippers", "flippers"), *[("a photo of a sea_cow",) * 2]]})  # of 0.1
    assert descriptors_of(Head(old, rows[:2], 20.0)) == {"sea_cow": ["flippers"]}


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
