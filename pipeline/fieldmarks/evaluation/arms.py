"""Descriptors by chance, the control that descriptors have to beat: random words, and lists of other classes.

Random words and characters in the place of descriptors are those of Roth et al., Waffling around for
Performance (2023). A seed draws the same on every machine.

Arms: the ways of classifying that are compared, as the texts that CLIP reads for each.

name          the bare class name
photo         "a photo of a {class}", with which the others are compared
templates     several templates of the name together
concept       "a photo of a NOUN: a {class}"
descriptors   the store's descriptors in a preset's wording; several of them where several are asked for
sentences     the descriptors of another store, as they are
waffle        random words and characters in the place of the descriptors, a draw for each seed
swapped       each class with the descriptors of another, a draw for each seed
"""

import random
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Final, NamedTuple

from fieldmarks.choices import Aggregation
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.texts import NAME_TEMPLATE, PRESETS, Texts, descriptor_texts, name_texts
from fieldmarks.errors import EvaluationError
from fieldmarks.text import fill

WAFFLE_TEMPLATE: Final = "a photo of a {class}, which has {descriptor}"
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_LETTERS_AND_DIGITS: Final = string.ascii_lowercase + string.digits
_LENGTHS: Final = range(4, 9)  # characters of a random string


def words(descriptors: Iterable[str]) -> list[str]:
    """Return the distinct words of descriptors, sorted: what random pairs are drawn from."""
    return sorted({word.casefold() for text in descriptors for word in _WORD.findall(text)})


def random_descriptors(classes: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Return as many random texts for each class as it has descriptors.

    Two random strings of characters and two random words of the descriptors follow each other in turn. As in
    the source, all classes read the same ones, so that nothing in them can tell classes apart.
    """
    chance = random.Random(f"waffle {seed}")
    vocabulary = words(text for listed in classes.values() for text in listed)
    most = max(len(set(listed)) for listed in classes.values())
    drawn: dict[str, None] = {}
    while len(drawn) < most:
        drawn[_pair(chance, vocabulary if len(drawn) % 2 and len(vocabulary) ** 2 > most else [])] = None
    return {name: list(drawn)[: len(set(listed))] for name, listed in classes.items()}


def derangement(count: int, seed: int) -> list[int]:
    """Return a random order of `count` things in which none keeps its place; all such are equally likely.

    Raises ValueError for fewer than two.
    """
    if count < 2:
        raise ValueError("one thing alone cannot change places")
    chance = random.Random(f"swapped {seed}")
    order = list(range(count))
    while any(place == one for place, one in enumerate(order)):
        chance.shuffle(order)
    return order


def swapped(classes: Mapping[str, Sequence[str]], seed: int) -> dict[str, Sequence[str]]:
    """Return the classes with their lists exchanged; a class without descriptors stays without.

    Raises ValueError where fewer than two classes have descriptors.
    """
    described = [name for name, listed in classes.items() if listed]
    order = derangement(len(described), seed)
    moved = {name: classes[described[other]] for name, other in zip(described, order, strict=True)}
    return {name: moved.get(name, ()) for name in classes}


def _pair(chance: random.Random, vocabulary: Sequence[str]) -> str:
    """Return two random words of a vocabulary, or two strings of random characters without one."""
    if vocabulary:
        return " ".join(chance.choice(vocabulary) for _ in range(2))
    lengths = [chance.choice(_LENGTHS) for _ in range(2)]
    return " ".join("".join(chance.choices(_LETTERS_AND_DIGITS, k=length)) for length in lengths)


NAMES: Final = ("name", "photo", "templates", "concept", "descriptors", "sentences", "waffle", "swapped")
DEFAULT_ARMS: Final = ("photo", "descriptors", "waffle", "swapped")
CONCEPT_TEMPLATE: Final = "a photo of a {concept}: a {class}"
OF_ONE_TEXT: Final[Aggregation] = "mean-embedding"  # with one text a class all aggregations agree
OF_TEMPLATES: Final[Aggregation] = "mean-unit-embedding"  # as CLIP and CuPL put their prompts together
SHIPPED_TEMPLATES: Final = Path(__file__).with_name("templates.txt")

Classes = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Draw:
    """The texts of one run; `rows` (M, D) are their embeddings where they need not be computed."""

    texts: Texts
    seed: int | None = None
    rows: Array | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """A way of classifying: its template or what stands for it, and a draw for each seed, or the only one."""

    name: str
    text: str
    aggregate: Aggregation
    draws: tuple[Draw, ...]


class Way(NamedTuple):
    """A way of reading descriptors: the arm's name, the template, how a class's texts come together."""

    name: str
    template: str
    aggregate: Aggregation


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user wants compared; `aggregates` empty stand for each preset's own."""

    arms: tuple[str, ...] = DEFAULT_ARMS
    presets: tuple[str, ...] = ("article",)
    aggregates: tuple[Aggregation, ...] = ()
    seeds: int = 5
    templates: tuple[str, ...] = ()
    concept: str | None = None
    sentences: Classes | None = None

    def ways(self) -> list[Way]:
        """Return each way of reading descriptors, the main one first."""
        both = [
            (preset, aggregate)
            for preset in self.presets
            for aggregate in self.aggregates or (PRESETS[preset].aggregate,)
        ]
        told = (len(self.presets) > 1, len(self.aggregates) > 1)
        return [
            Way(" ".join(["descriptors", *compress(pair, told)]), PRESETS[pair[0]].template, pair[1])
            for pair in both
        ]


def read_templates(path: Path) -> tuple[str, ...]:
    """Return the templates of a file, one a line; blank lines and those that begin with # are left out.

    Raises EvaluationError for a file that cannot be read, or a template without {class}.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    templates = tuple(line for line in lines if line and not line.startswith("#"))
    if not templates:
        raise EvaluationError(f"{path} has no template: write one a line, as in 'a photo of a {{class}}'")
    for line in templates:
        if "{class}" not in line:
            raise EvaluationError(f"{path}: template {line!r:.60} does not say where {{class}} stands")
    return templates


def of_classes(classes: Classes, wanted: Wanted) -> Iterator[Arm]:
    """Yield the wanted arms in the order of NAMES, of classes with their descriptors.

    A class without descriptors is read by the prompt of its name. Raises PromptError for a template with an
    unknown field, EvaluationError for an arm that these classes do not allow.
    """
    for name in NAMES:
        if name in wanted.arms:
            yield from _of_names(name, classes, wanted) or _of_descriptors(name, classes, wanted)


def _of_names(name: str, classes: Classes, wanted: Wanted) -> list[Arm]:
    """Return the arm of this name if it reads class names alone."""
    templates = {"name": "{class}", "photo": NAME_TEMPLATE, "concept": CONCEPT_TEMPLATE}
    if name in templates:
        text = fill(templates[name], {"class": "{class}", "concept": wanted.concept or "{concept}"})
        return [Arm(name, text, OF_ONE_TEXT, (Draw(name_texts(classes, templates[name], wanted.concept)),))]
    if name == "templates":
        return [_templates(classes, wanted)]
    return []


def _of_descriptors(name: str, classes: Classes, wanted: Wanted) -> list[Arm]:
    """Return the arms of this name that read descriptors, true or drawn."""
    ways = wanted.ways()
    if name == "descriptors":
        return [Arm(*way, (Draw(descriptor_texts(classes, way.template)),)) for way in ways]
    if name == "sentences":
        return [_sentences(classes, wanted.sentences or {})]
    _, template, aggregate = ways[0]
    return [_random(name, classes, template, aggregate, wanted.seeds)]


def _random(name: str, classes: Classes, template: str, aggregate: Aggregation, seeds: int) -> Arm:
    """Return an arm of as many draws as there are seeds."""
    if sum(map(bool, classes.values())) < 2:
        raise EvaluationError(f"the arm {name} needs two classes with descriptors: leave it out with --arms")
    draw = swapped if name == "swapped" else random_descriptors
    read, told = template, f"{template} of another class"
    if name == "waffle":
        read = template if "{class}" in template else WAFFLE_TEMPLATE
        told = read.replace("{descriptor}", "{random}").replace("{which}", "which has {random}")
    draws = (Draw(descriptor_texts(draw(classes, seed), read), seed) for seed in range(seeds))
    return Arm(name, told, aggregate, tuple(draws))


def _templates(classes: Classes, wanted: Wanted) -> Arm:
    templates = wanted.templates or read_templates(SHIPPED_TEMPLATES)
    laid = {
        name: [(text, text) for template in templates for text in name_texts([name], template).texts]
        for name in classes
    }
    told = f"{len(templates)} templates, the first {templates[0]}" if len(templates) > 1 else templates[0]
    return Arm("templates", told, OF_TEMPLATES, (Draw(Texts.collect(laid)),))


def _sentences(classes: Classes, sentences: Classes) -> Arm:
    missing = [name for name in classes if not sentences.get(name)]
    if missing:
        raise EvaluationError(
            f"the store of sentences lacks {len(missing)} of {len(classes)} classes, {missing[0]!r} first"
        )
    texts = descriptor_texts({name: sentences[name] for name in classes}, "{descriptor}")
    return Arm("sentences", "{sentence}", OF_TEMPLATES, (Draw(texts),))
