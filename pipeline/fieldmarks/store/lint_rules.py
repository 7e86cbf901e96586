"""The lint rules, `RULES`: each has a code, a name, a severity, a description and a function that applies it.

Most rules check the text of one descriptor; those about English words skip other languages. The others check
a class, or compare all classes. Tokens are counted with a CLIP model's own tokenizer, without loading the
model.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.debris import has_thinking, plain, without_thinking
from fieldmarks.errors import ModelError
from fieldmarks.paths import read_text
from fieldmarks.records import Entry, near_miss
from fieldmarks.store.descriptor_effects import Measurement, points
from fieldmarks.store.languages import Language, language, named_in, words
from fieldmarks.text import comparable, cut_list

_CUT_MARK: Final = re.compile(r"[,;:(\[–—\-，、；：（【]$")
_CUT_WORD: Final = re.compile(
    r"\b(?:and|or|but|the|a|an|with|of|to|for|from|than|that|which|its|their|is|are"
    r"|as|by|such)$",
    re.IGNORECASE,
)
_HEDGE: Final = re.compile(
    r"\b(?:may|might|could|often|usually|typically|sometimes|generally|commonly|normally|frequently"
    r"|occasionally"
    r"|possibly|probably|perhaps|likely|tends? to|can (?:also )?(?:be|have|vary|range))\b",
    re.IGNORECASE,
)
_NEGATION: Final = re.compile(
    r"\b(?:no|not|none|never|neither|nor|without|lacks?|lacking|absence|absent|cannot|\w+n['’]t)\b",
    re.IGNORECASE,
)
_NUMBER: Final = r"[\d¼-¾⅐-⅞]+(?:[.,/⁄ ][\d¼-¾⅐-⅞]+){0,3}"
_UNSEEN: Final = re.compile(
    r"\b(?:smell\w*|odou?rs?|odou?rless|scent(?:s|ed)?|fragran\w+|aroma\w*|tast(?:e|es|y|ing)|flavou?r\w*"
    r"|sounds?|nois[ey]\w*|loud\w*|audible|melod\w+|songs?|calls"
    r"|barks (?:at|when|loudly|often|a lot)|barking|howl(?:s|ing)|growl(?:s|ing)|meow\w*|purr(?:s|ing)"
    r"|hoot(?:s|ing)|croak(?:s|ing)|chirp\w*|sings|singing"
    r"|nocturnal|diurnal|habitats?|native to|lives? in|diets?|feeds? on|eats?|preys? on|hunts?|migrat\w+"
    r"|hibernat\w+|behaviou?rs?|temperament|friendly|aggressive|intelligent|loyal|venomous|poisonous"
    r"|lifespan|life span|prices?|priced|expensive|inexpensive|cheap|costs?|popular|invented"
    r"|weigh(?:s|ing|t)?"
    r"|(?:milli|centi)?met(?:er|re)s?(?: in| long| tall| high| wide)"
    r"|(?:feet|foot|inch|inches|pounds|kilograms)(?= (?:in length|in height|long|tall|high|wide)\b))\b"
    # A complete measurement, with its decimals, fraction or range.
    rf"|(?<!\w)[.,]?{_NUMBER}(?:\s*(?:[-–]|to|x|×)\s*{_NUMBER}){{0,3}}\s*"
    r"(?:mm|cm|km|m|kg|g|lbs?|ft|inch|inches|feet|met(?:er|re)s?|pounds?|kilograms?|years?)\b",
    re.IGNORECASE,
)
# --fix removes these, so they must be certain: "absolutely round eyes" and "these are lined with trees" are
# traits.
_TALK: Final = (
    r"ways?|things|features|characteristics|traits|attributes|aspects|elements|details|differences|changes"
    r"|factors|challenges|variations|materials|methods|options|reasons|types|kinds"
)
_CHATTER: Final = re.compile(
    r"^(?:(?:sure|certainly|of course|absolutely|okay|ok)(?:\s*[,.!:;]|\s+[–—-]|\s*$|\s+(?:thing|here|i)\b)"
    r"|(?:here(?:['’]s| is| are)|let me|as an ai|i am|i['’]m|i can(?! see\b)|i hope|the following"
    r"|note that|please note|in (?:summary|conclusion))\b"
    r"|(?:(?:these are|there are several)(?: [\w-]+){0,4}? (?:" + _TALK + r")"
    r"|(?:some )?(?:useful |visual ){1,2}features)\b(?!.*\binclud(?:ing|es?)\b(?!:)))",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(
    r"^(?:(?:it|they|these|this|he|she)(?: \w+){0,2}? (?:is|are|has|have|can|features?|looks?"
    r"|shows?|displays?|appears?|possess(?:es)?|resembles?|includes?|consists?)\b"
    r"|(?:the|an?|its|their|most|all|both)(?: [\w-]+){1,4} (?:is|are|has|have|can be)\b(?=.*[.!]$))",
    re.IGNORECASE,
)
_SENTENCES: Final = re.compile(r"[.!?]\s+\S")
_MARKS: Final = re.compile(r"^(?:\s*(?:#{1,6}\s+|[-*•·–—]+>?|\(?\d{1,2}[.)]\s+))++\s*")
_MOST_REPAIRS: Final = 20  # of a hostile text; one repair can expose another
_MOJIBAKE: Final = re.compile("[ÂÃâ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")


def cut(text: str, *, english: bool = True) -> str | None:
    """Report a text that looks cut off."""
    if any(text.count(opened) > text.count(closed) for opened, closed in ("()", "（）")):
        return "a bracket is not closed"
    end = _CUT_MARK.search(text.rstrip()) or (_CUT_WORD.search(text.rstrip()) if english else None)
    return f"it ends in {end[0]!r}" if end else None


def hedge(text: str) -> str | None:
    """Report a word that makes the trait uncertain."""
    return _word(_HEDGE, text)


def negation(text: str) -> str | None:
    """Report a negation."""
    return _word(_NEGATION, text)


def unseen(text: str) -> str | None:
    """Report what a photo does not show."""
    return _word(_UNSEEN, text)


def chatter(text: str) -> str | None:
    """Report chat filler in place of a trait."""
    introduces = text.rstrip().endswith((":", "：")) and not _SENTENCES.search(text)
    return _word(_CHATTER, text) or ("it introduces a list" if introduces else None)


def debris(text: str) -> str | None:
    """Report leftover encoding errors, markup and list markers."""
    if "\ufffd" in text:
        return "a character was lost (\ufffd)"
    if has_thinking(text):
        return "it contains the model's own reasoning"
    cleaned = clean(text)
    return None if cleaned == text else f"should read {cleaned!r}"


def clean(text: str) -> str:
    """Return a descriptor without model reasoning and leftover encoding errors, markup and list markers."""
    before = None
    for _ in range(_MOST_REPAIRS):
        if text == before:
            break
        before = text
        text = _recoded(text) if _MOJIBAKE.search(text) else text
        text = _MARKS.sub("", plain(without_thinking(text) or ""))
    return text


def wordless(text: str) -> str | None:
    """Report a text without letters."""
    return None if not text.strip() or any(map(str.isalpha, text)) else "it has no letter"


def sentence(text: str) -> str | None:
    """Report a whole sentence in place of a feature."""
    return _word(_SENTENCE, text)


def _recoded(text: str) -> str:
    """Return the intended text of UTF-8 that was read as Windows-1252, or the text itself."""
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def _word(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return f"it says {match[0]!r}" if match else None


class Severity(IntEnum):
    """How serious a finding is; only errors fail a run, unless `--fail-on` says otherwise."""

    HINT = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Config:
    """What to look for: a project's settings, and those that a command line adds."""

    ignore: frozenset[str] = frozenset()  # rule codes
    severity: Mapping[str, Severity] = field(default_factory=dict)  # by code
    max_words: int = 15
    shared_by: int = 5  # classes
    hurts_by: int = 2  # images lost, in percent of the class's images
    examples: frozenset[str] = frozenset()  # the bullets of a prompt's worked examples
    tokens: Callable[[str], int] | None = None  # counts as CLIP does, with start and end tokens
    max_tokens: int = 77


@dataclass(frozen=True)
class Listing:
    """All classes being linted, and facts that depend on all of them."""

    entries: Sequence[Entry]
    config: Config = field(default_factory=Config)

    @cached_property
    def language(self) -> Language:
        """The language of most descriptors."""
        return language(text for entry in self.entries for text in entry.descriptors) or "en"

    def is_english(self, entry: Entry) -> bool:
        """Whether rules about English words apply to this entry's texts."""
        return (language(entry.descriptors) or self.language) == "en"

    @cached_property
    def sharing(self) -> Mapping[str, int]:
        """The number of classes in which each descriptor occurs."""
        classes: defaultdict[str, int] = defaultdict(int)
        for entry in self.entries:
            for key in {comparable(text) for text in entry.descriptors}:
                classes[key] += 1
        return classes

    @cached_property
    def same_lists(self) -> Mapping[tuple[str, ...], Sequence[str]]:
        """The names of the classes that have each list."""
        names: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for entry in self.entries:
            names[entry.descriptors].append(entry.name)
        return names

    @cached_property
    def same_names(self) -> Mapping[str, Sequence[str]]:
        """The names grouped by spelling, ignoring case, punctuation and underscores."""
        names: defaultdict[str, list[str]] = defaultdict(list)
        for entry in self.entries:
            names[comparable(entry.name)].append(entry.name)
        return names


Complaint = tuple[int | None, str]  # the descriptor's position, or None for the class; what is wrong
Finder = Callable[[Entry, Listing], Iterator[Complaint]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A lint rule; `fix` says whether `lint.fixed` can fix its findings safely."""

    code: str
    name: str
    severity: Severity
    doc: str
    find: Finder
    fix: bool = False


def each(look: Callable[[str], str | None], *, english: bool = False) -> Finder:
    """Turn a check of one text into a check of an entry's texts, optionally only English ones."""

    def find(entry: Entry, listing: Listing) -> Iterator[Complaint]:
        if english and not listing.is_english(entry):
            return iter(())
        complaints = ((at, look(text)) for at, text in enumerate(entry.descriptors))
        return ((at, complaint) for at, complaint in complaints if complaint is not None)

    return find


def _empty(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    if not entry.descriptors:
        yield None, "it has no descriptors to tell it apart"


def _blank(text: str) -> str | None:
    return None if text.strip() else "the descriptor is empty"


def _twice(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    first: dict[str, int] = {}
    for at, text in enumerate(entry.descriptors):
        if (before := first.setdefault(comparable(text), at)) != at:
            yield at, f"it repeats number {before + 1}"


def _same_list(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    names = listing.same_lists[entry.descriptors]
    if len(names) > 1 and entry.descriptors:
        yield None, f"{cut_list(list(map(repr, names)), 4)} have the same list: they cannot be told apart"


def _shared(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    many = min(listing.config.shared_by, max(2, len(listing.entries)))
    for at, text in enumerate(entry.descriptors):
        if (count := listing.sharing[comparable(text)]) >= many:
            yield at, f"{count} of {len(listing.entries)} classes have it: it cannot tell them apart"


def _echo(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    for at, text in enumerate(entry.descriptors):
        if text.strip() in listing.config.examples:
            yield at, "it repeats a bullet of the prompt's worked examples"


def _own_name(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    name = comparable(entry.name)
    for at, text in enumerate(entry.descriptors):
        if named_in(name, comparable(text)):
            yield at, "it names the class: CLIP then reads the name, not the trait"


def _cut(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    look = partial(cut, english=listing.is_english(entry))
    yield from each(look)(entry, listing)
    if entry.finish_reason == "length" and entry.descriptors and not look(entry.descriptors[-1]):
        yield None, "the answer was cut off by max_tokens: descriptors may be missing"


def _long(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    for at, text in enumerate(entry.descriptors):
        if (count := words(text)) > listing.config.max_words:
            yield at, f"it has {count} words: the limit is {listing.config.max_words}"


def _tokens(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    if (count := listing.config.tokens) is not None:
        for at, text in enumerate(entry.descriptors):
            if (tokens := count(text)) > listing.config.max_tokens:
                yield (
                    at,
                    f"it has {tokens} tokens: the model reads {listing.config.max_tokens} at most",
                )


def _alike(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    names = listing.same_names[comparable(entry.name)]
    if len(names) > 1:
        others = _others(names, entry.name)
        yield None, f"its name differs from {others} only by case, punctuation or underscores"


def _underscore(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    if "_" in entry.name:
        yield (
            None,
            f"its name has an underscore, which CLIP reads: rename it to {entry.name.replace('_', ' ')!r}",
        )


def _two_meanings(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    if meanings := _MEANINGS.get(entry.name.casefold()):
        yield None, f"its name means {meanings}: say which, as in {_example(entry.name, meanings)!r}"


def _near_miss(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    for key in ("descriptors", "rejected"):
        if (other := near_miss(entry.extra, key)) is not None:
            yield None, f"its key {other!r} is not read: did you mean {key!r}?"


def _hurts(entry: Entry, listing: Listing) -> Iterator[Complaint]:
    if (measurement := Measurement.of(entry)) is None:
        return
    for at, text in enumerate(entry.descriptors):
        lost = measurement.lost(text)
        if lost > 0 and 100 * lost >= listing.config.hurts_by * measurement.effects[text].images:
            effect = points(measurement.effects[text].effect)
            yield at, f"it hurts accuracy where it was measured: {effect} points on {measurement.where}"


def _others(names: Sequence[str], name: str) -> str:
    """Return the first three of `names` other than `name`, and the number of the rest."""
    shown = [other for other in names[:4] if other != name][:3]
    more = len(names) - 1 - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more else "")


def _example(name: str, meanings: str) -> str:
    return f"{name} ({meanings.split(' or ')[0].removeprefix('a ').removeprefix('an ')})"


_MEANINGS: Final = {
    "bat": "an animal or a club",
    "bass": "a fish or an instrument",
    "bow": "a weapon or a ribbon",
    "buckle": "a clasp or a warp",
    "cardinal": "a bird or a cleric",
    "cock": "a bird or a valve",
    "crane": "a bird or a machine",
    "jay": "a bird or a letter",
    "drake": "a duck or a dragon",
    "horn": "an instrument or a part of an animal",
    "jaguar": "an animal or a car",
    "jersey": "a shirt or a cow",
    "kite": "a bird or a toy",
    "maillot": "a swimsuit or a jersey",
    "mouse": "an animal or a device",
    "nail": "a pin or a part of a finger",
    "pitcher": "a jug or a player",
    "pipe": "a tube or a thing to smoke",
    "plane": "an aircraft or a tool",
    "racket": "a bat or a noise",
    "ram": "a sheep or a memory",
    "ray": "a fish or a beam",
    "ruler": "a measure or a monarch",
    "seal": "an animal or a stamp",
    "sorrel": "a horse or a plant",
    "stole": "a scarf or a part of a robe",
    "tank": "a vehicle or a container",
    "trunk": "a part of an elephant or a chest",
    "turkey": "a bird or a country",
    "vault": "a ceiling or a strongroom",
}

_E, _W, _H = Severity.ERROR, Severity.WARNING, Severity.HINT
RULES: Final = (
    Rule("FM101", "empty-list", _E, "A class has no descriptors.", _empty),
    Rule("FM102", "empty-descriptor", _E, "A descriptor is empty.", each(_blank), fix=True),
    Rule(
        "FM103",
        "twice",
        _W,
        "A class has the same descriptor twice, ignoring case and punctuation.",
        _twice,
        fix=True,
    ),
    Rule("FM104", "same-list", _E, "Two classes have the same list.", _same_list),
    Rule("FM105", "shared", _W, "Many classes share a descriptor (`shared-by`, 5).", _shared),
    Rule("FM106", "no-letters", _E, "A descriptor has no letter.", each(wordless)),
    Rule("FM201", "echo", _E, "A descriptor repeats a worked example of the prompt (`--examples`).", _echo),
    Rule("FM202", "chatter", _E, "Chat filler, not a trait.", each(chatter), fix=True),
    Rule("FM203", "cut", _W, "A descriptor or an answer is cut off.", _cut),
    Rule("FM204", "debris", _E, "Encoding debris, markup, list marks.", each(debris), fix=True),
    Rule("FM301", "own-name", _W, "A descriptor contains the class's name.", _own_name),
    Rule(
        "FM302",
        "hedge",
        _W,
        "A hedge, such as may or often: state the trait plainly.",
        each(hedge, english=True),
    ),
    Rule("FM303", "negation", _W, "A negation, which CLIP mostly ignores.", each(negation, english=True)),
    Rule("FM304", "not-visible", _W, "Smell, taste, sound, habits, price, measures.", each(unseen)),
    Rule("FM305", "long", _W, "A descriptor has too many words (`max-words`, 15).", _long),
    Rule("FM306", "tokens", _E, "A descriptor has more tokens than the model reads (`--clip`).", _tokens),
    Rule("FM307", "sentence", _W, "A sentence, not a feature.", each(sentence, english=True)),
    Rule("FM401", "name-alike", _E, "Names differ only by case, punctuation or underscores.", _alike),
    Rule("FM402", "underscore", _W, "A name has an underscore instead of a space.", _underscore),
    Rule("FM403", "two-meanings", _H, "A name has two well-known meanings.", _two_meanings),
    Rule("FM404", "near-miss-key", _W, "A key that is not read, close to one that is.", _near_miss),
    Rule("FM501", "hurts", _W, "Measured: accuracy is better without it (`hurts-by`, 2%).", _hurts),
)


MAX_FILE = 128 << 20  # bytes
CLIP_TOKENS = 77  # if a tokenizer does not say


def token_count(model: str) -> tuple[Callable[[str], int], int]:
    """Return a function that counts a text's tokens, with start and end tokens, and the model's token limit.

    `model` is a folder or a hub id. Raises ModelError if its tokenizer files are missing or invalid.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(read_text(_file(model, "tokenizer.json"), MAX_FILE, ModelError))
        config: Any = orjson.loads(read_text(_file(model, "tokenizer_config.json"), MAX_FILE, ModelError))
    except ModelError as error:
        raise ModelError(f"{model}: {error}") from error
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot parse
        raise ModelError(f"{model}: its tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    limit = config.get("model_max_length") if isinstance(config, dict) else None
    if not isinstance(limit, int) or not 0 < limit < 1_000_000:  # unset is written as 10**30
        limit = CLIP_TOKENS
    return lambda text: len(tokenizer.encode(text).ids), limit


def _file(model: str, name: str) -> Path:
    if Path(model).is_dir():
        return Path(model) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model, name))
