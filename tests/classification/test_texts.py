"""Presets, templates and the paper's wording."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.classification.texts import PRESETS, Texts, descriptor_texts, name_texts, which
from fieldmarks.errors import PromptError, StoreError, UsageError


@pytest.mark.parametrize(
    ("descriptor", "clause"),
    [
        ("a long tail", "which is a long tail"),
        ("an orange beak", "which is an orange beak"),
        ("antennae", "which is antennae"),  # the paper's slip, kept
        ("has stripes", "which has stripes"),
        ("often wet", "which often wet"),
        ("typically green", "which typically green"),
        ("may be red", "which may be red"),
        ("can fly", "which can fly"),
        ("candles", "which candles"),  # the paper's slip, kept
        ("used for cutting", "which is used for cutting"),
        ("four legs", "which has four legs"),
        ("Antennae", "which has Antennae"),
        ("", "which has "),
    ],
)
def test_the_papers_clause(descriptor: str, clause: str) -> None:
    assert which(descriptor) == clause


def _papers_own_wording(descriptor: str) -> str:
    """The rules as the paper's code has them, one condition after the other."""
    if descriptor.startswith("a") or descriptor.startswith("an"):
        return f"which is {descriptor}"
    if any(descriptor.startswith(word) for word in ("has", "often", "typically", "may", "can")):
        return f"which {descriptor}"
    if descriptor.startswith("used"):
        return f"which is {descriptor}"
    return f"which has {descriptor}"


def test_the_papers_texts_on_its_own_descriptors(check_data: Path) -> None:
    counts = {}
    for name in ("dtd", "eurosat", "imagenet"):
        text = (check_data / "descriptors" / f"descriptors_{name}.json").read_text("utf-8")
        classes: dict[str, list[str]] = json.loads(text)
        for end in ("", "."):
            expected = [
                f"{class_name}, {_papers_own_wording(descriptor)}{end}"
                for class_name, own in classes.items()
                for descriptor in own
            ]
            texts = descriptor_texts(classes, PRESETS["paper"].template + end)
            assert list(texts.texts) == expected
            assert list(texts.classes) == list(classes)
        counts[name] = len(expected)
    assert counts == {"dtd": 193, "eurosat": 25, "imagenet": 5800}


@pytest.mark.parametrize(
    ("name", "descriptors", "texts"),
    [
        ("corn_field", [], ["corn field, which has "]),
        ("donuts", [], ["donuts, which has "]),
        ("Black-footed Albatross", ["a wingspan"], ["Black-footed Albatross, which is a wingspan"]),
        ("airport_terminal-indoor", ["seats"], ["airport terminal-indoor, which has seats"]),
        (
            "barn",
            ["hay", "a roof", "hay"],
            ["barn, which has hay", "barn, which is a roof", "barn, which has hay"],
        ),
        ("lab_coat", ["Has Buttons"], ["lab coat, which has Has Buttons"]),
    ],
)
def test_preset_paper_reads_as_the_papers_code(name: str, descriptors: list[str], texts: list[str]) -> None:
    template = PRESETS["paper"].template
    assert list(descriptor_texts({name: descriptors}, template).texts) == texts
    assert list(descriptor_texts({name: descriptors}, template + ".").texts) == [text + "." for text in texts]


def test_names_are_read_with_blanks() -> None:
    assert name_texts(["tree_frog"]).texts == ("a photo of a tree frog",)
    assert name_texts(["tree_frog"], "{article} {class}").texts == ("a tree frog",)
    texts = descriptor_texts({"a_b": ["c_d"], "e_f": []}, "{class}: {descriptor}")
    assert texts.texts == ("a b: c_d", "a photo of a e f")
    assert texts.classes == ("a_b", "e_f")


def test_presets() -> None:
    classes = {"tree frog": ["protruding eyes", "a wide mouth"]}
    article = descriptor_texts(classes, PRESETS["article"].template)
    assert article.texts == ("protruding eyes", "a wide mouth")
    paper = descriptor_texts(classes, PRESETS["paper"].template)
    assert paper.texts == ("tree frog, which has protruding eyes", "tree frog, which is a wide mouth")
    assert paper.descriptors == article.descriptors == ("protruding eyes", "a wide mouth")
    assert (PRESETS["article"].aggregate, PRESETS["paper"].aggregate) == ("mean-embedding", "mean-similarity")


def test_every_field_of_a_template() -> None:
    texts = descriptor_texts(
        {"owl": ["big eyes"]}, "{article} {class} of the {concept}s {which}", concept="bird"
    )
    assert texts.texts == ("an owl of the birds which has big eyes",)


def test_owner_runs_in_step() -> None:
    texts = descriptor_texts({"a": ["1", "2"], "b": [], "c": ["3"]}, "{descriptor}")
    shown = ("1", "2", "a photo of a b", "3")
    assert texts == Texts(("a", "b", "c"), (0, 0, 1, 2), shown, shown)


def test_a_repeated_descriptor_counts_once() -> None:
    assert descriptor_texts({"a": ["1", "2", "1"]}, "{descriptor}").texts == ("1", "2")
    assert descriptor_texts({"a": ["1", "2", "1"]}, "{which}").texts == ("which has 1", "which has 2")


def test_with_name_adds_the_plain_prompt() -> None:
    texts = descriptor_texts({"owl": ["big eyes"]}, "{descriptor}", with_name=True)
    assert texts.texts == ("big eyes", "a photo of a owl")


def test_names_alone() -> None:
    assert name_texts(["owl", "tree frog"]).texts == ("a photo of a owl", "a photo of a tree frog")


@given(st.text(), st.text())
def test_braces_of_strangers_are_text(name: str, descriptor: str) -> None:
    spoken = name.replace("_", " ")
    assert descriptor_texts({name: [descriptor]}, "{class}|{descriptor}").texts == (f"{spoken}|{descriptor}",)


def test_concept_without_a_value_is_an_error() -> None:
    with pytest.raises(PromptError, match=r"^\{concept\} in '\{concept\}' is unknown"):
        descriptor_texts({"owl": ["big eyes"]}, "{concept}")


@pytest.mark.parametrize("template", ["", "a photo", "{class", "{}", "{class.name}", "{article}"])
def test_a_template_that_is_the_same_text_for_all_classes(template: str) -> None:
    with pytest.raises(UsageError, match="is the same for all classes: write"):
        descriptor_texts({"owl": ["big eyes"], "fox": []}, template)


def test_no_class_is_an_error() -> None:
    with pytest.raises(StoreError, match="no class to choose from"):
        descriptor_texts({}, "{descriptor}")
