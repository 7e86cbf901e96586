"""The texts that CLIP reads: presets, templates, and the paper's wording ("which has", "which is").

Classifying, evaluating and what-if build their texts with `descriptor_texts` and `name_texts`, so what is
measured is what runs. Underscores of a class name are read as blanks ("corn_field" as "corn field").

A template that has {class} and {which}, as the preset `paper` has, builds what the paper's released code
builds, string by string: a repeated descriptor counts as often as it is listed, and a class without
descriptors reads "{class}, which has ". On ImageNet the paper ends each text with a full stop, which is the
template "{class}, {which}.". With any other template a repeated descriptor counts once, and a class without
descriptors falls back to "a photo of a {class}".
Source: Menon & Vondrick, classify_by_description_release, load.py and loading_helpers.py.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fieldmarks.choices import Aggregation
from fieldmarks.classification.broader import KEY
from fieldmarks.classification.results import NONE_OF_THESE
from fieldmarks.errors import StoreError, UsageError
from fieldmarks.records import class_name
from fieldmarks.store import Store
from fieldmarks.store.edits import current_entry
from fieldmarks.text import article, fill

NAME_TEMPLATE: Final = "a photo of a {class}"
WORDS: Final = Path(__file__).with_name("words.txt")  # common English words
_MOST_WORDS: Final = 3  # of a random text


@dataclass(frozen=True, slots=True)
class Reading:
    """A preset's way of reading descriptors: the template of a text, and how a class's texts are pooled."""

    template: str
    aggregate: Aggregation


PRESETS: Final[Mapping[str, Reading]] = {
    "article": Reading("{descriptor}", "mean-embedding"),
    "paper": Reading("{class}, {which}", "mean-similarity"),
}


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of some classes, class after class; `owner`, `descriptors` and `texts` run in step.

    A descriptor is what a mark shows and a text is what CLIP reads. A prompt of the class name alone has
    the text itself as its descriptor.
    """

    classes: tuple[str, ...]
    owner: tuple[int, ...]  # the class index of each text
    descriptors: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def collect(cls, classes: Mapping[str, Iterable[tuple[str, str]]]) -> "Texts":
        """Lay out (descriptor, text) pairs by class."""
        rows = [(index, *pair) for index, pairs in enumerate(classes.values()) for pair in pairs]
        owner, descriptors, texts = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(tuple(classes), owner, descriptors, texts)


def lists_of(
    store: Store | str | Path, names: Sequence[str] = (), *, is_alone: bool = False
) -> tuple[dict[str, Sequence[str]], dict[str, str]]:
    """Return the descriptors of a store's classes, or of those named, and what records where they are from.

    With `is_alone`, nothing else is to choose from. Raises StoreError for a name that is no class of the
    store, with the nearest; UsageError for one that is given twice, and for a single one that is alone.
    """
    opened = store if isinstance(store, Store) else Store(store)
    entries = [current_entry(opened, name) for name in names] if names else list(opened.entries())
    lists: dict[str, Sequence[str]] = {}
    for entry in entries:
        if entry.name in lists:
            raise UsageError(f"class {entry.name!r} is given twice: leave one out")
        lists[entry.name] = entry.descriptors
    if names and is_alone and len(lists) == 1:
        raise UsageError(
            f"{entries[0].name!r} alone would be the label of every image: name at least two classes, or say"
            " what other images show (none)"
        )
    metadata = {"store_sha256": hashlib.sha256(opened.path.read_bytes()).hexdigest()}
    if parents := {name: parent for name, parent in opened.parents().items() if name in lists}:
        metadata[KEY] = json.dumps(parents)
    return lists, metadata | ({"store": opened.name} if opened.is_on_hub else {})


def which(descriptor: str) -> str:
    """Return the paper's clause: "which has {d}", "which is {d}" or "which {d}".

    Its test is the beginning of the descriptor, not its first word, so that "antennae" becomes "which is
    antennae" and "candles" "which candles"; this is kept to reproduce the paper's numbers.
    """
    if descriptor.startswith("a"):  # theirs tests "a" and "an", which is the same
        return f"which is {descriptor}"
    if descriptor.startswith(("has", "often", "typically", "may", "can")):
        return f"which {descriptor}"
    return f"which is {descriptor}" if descriptor.startswith("used") else f"which has {descriptor}"


def name_texts(classes: Iterable[str], template: str = NAME_TEMPLATE, concept: str | None = None) -> Texts:
    """Return one text per class, made of its name alone. Raises PromptError for an unknown field."""
    filled = {name: fill(template, _name_values(name, concept)) for name in classes}
    return Texts.collect({name: [(text, text)] for name, text in filled.items()})


def descriptor_texts(
    classes: Mapping[str, Sequence[str]],
    template: str,
    *,
    concept: str | None = None,
    with_name: bool = False,
) -> Texts:
    """Return the texts of each class's descriptors; `with_name` adds the plain prompt of its name.

    A class without descriptors is read by a prompt of its name, so that it can still be predicted. Fields of
    a template: {class}, {descriptor}, {article} (a or an, of the class), {which} (the paper's clause) and,
    where a concept is given, {concept}. Raises StoreError for no class, PromptError for an unknown field,
    UsageError for a concept that the template does not name, and a template that
    is the same text for all classes.
    """
    _check_concept(template, concept)
    if not classes:
        raise StoreError("there is no class to choose from: generate or add classes to the store first")
    as_the_paper = "{class}" in template and "{which}" in template
    laid: dict[str, list[tuple[str, str]]] = {}
    for name, descriptors in classes.items():
        values = _name_values(name, concept)
        laid[name] = [
            (descriptor, _filled(template, values, descriptor))
            for descriptor in (descriptors if as_the_paper else dict.fromkeys(descriptors))
        ]
        plain = fill(NAME_TEMPLATE, values)
        if not laid[name] and as_the_paper:
            alone = _filled(template, values, "")
            laid[name].append((alone, alone))
        if with_name or not laid[name]:
            laid[name].append((plain, plain))
    if not any(field in template for field in ("{class}", "{descriptor}", "{which}")):
        raise UsageError(
            f"the text {template!r:.60} is the same for all classes: write {{descriptor}}, {{which}} or"
            " {class} in it"
        )
    return Texts.collect(laid)


def zero_shot_texts(names: Iterable[str], template: str | None, concept: str | None = None) -> Texts:
    """Return the texts of classes that are known by their names only.

    Raises UsageError for no name, a name given twice, a template without {class} and a concept that it does
    not name; PromptError for an unknown field, ClassNameError.
    """
    template = NAME_TEMPLATE if template is None else template
    _check_concept(template, concept)
    classes = [class_name(name) for name in names]
    if not classes:
        raise UsageError("there is no class to choose from: give at least one class name")
    if twice := next((name for place, name in enumerate(classes) if name in classes[:place]), None):
        raise UsageError(f"class {twice!r} is given twice: leave one out")
    if "{class}" not in template:
        raise UsageError(f"the text {template!r:.60} is the same for all classes: write {{class}} in it")
    return name_texts(classes, template, concept)


def with_catch_all(texts: Texts, catch_all: Sequence[str]) -> Texts:
    """Return the texts with a last class, NONE_OF_THESE, which reads the texts of `catch_all` as they are.

    Raises UsageError for an empty text, and where there is such a class already.
    """
    if not all(text.strip() for text in catch_all):
        raise UsageError("none: expected a text such as 'a photo of something else', found an empty one")
    if NONE_OF_THESE in texts.classes:
        raise UsageError(f"none: there is a class named {NONE_OF_THESE!r} already: rename or remove it")
    own = tuple(dict.fromkeys(catch_all))
    return Texts(
        (*texts.classes, NONE_OF_THESE),
        (*texts.owner, *[len(texts.classes)] * len(own)),
        (*texts.descriptors, *own),
        (*texts.texts, *own),
    )


def _check_concept(template: str, concept: str | None) -> None:
    if concept is not None and "{concept}" not in template:
        raise UsageError(f"concept has no effect: the text {template!r:.60} does not contain {{concept}}")


def _filled(template: str, values: Mapping[str, str], descriptor: str) -> str:
    return fill(template, {**values, "descriptor": descriptor, "which": which(descriptor)})


def _name_values(name: str, concept: str | None) -> dict[str, str]:
    spoken = name.replace("_", " ")
    values = {"class": spoken, "article": article(spoken)}
    return values | ({} if concept is None else {"concept": concept})


@cache
def common_words() -> tuple[str, ...]:
    """Return the words of words.txt."""
    lines = WORDS.read_text("utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def random_texts(count: int, seed: str) -> list[str]:
    """Return different texts of one to three random words, the same ones on every machine."""
    chance, words, texts = random.Random(seed), common_words(), dict[str, None]()
    while len(texts) < count:
        texts[" ".join(chance.choices(words, k=chance.randint(1, _MOST_WORDS)))] = None
    return list(texts)
