"""What can be wrong with one descriptor: each check takes its text and returns a complaint or None.

English only.
"""

import re
from typing import Final

from fieldmarks.debris import plain, spoken, thinks

_CUT: Final = re.compile(
    r"(?:[,;:(\[–—-]|\b(?:and|or|but|the|a|an|with|of|to|for|from|than|that|which|its|their|is|are"
    r"|as|by|such))$",
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
    r"|nocturnal|diurnal|habitats?|native to|lives? in|diets?|feeds? on|eats?|preys? on|hunts?|migrat\w+"
    r"|hibernat\w+|behaviou?rs?|temperament|friendly|aggressive|intelligent|loyal|venomous|poisonous"
    r"|lifespan|life span|prices?|priced|expensive|inexpensive|cheap|costs?|popular|invented"
    r"|weigh(?:s|ing|t)?"
    r"|(?:milli|centi)?met(?:er|re)s?(?: in| long| tall| high| wide)"
    r"|(?:feet|foot|inch|inches|pounds|kilograms)(?= (?:in length|in height|long|tall|high|wide)\b))\b"
    # A measure, whole: with its decimals, fraction or range.
    rf"|(?<!\w)[.,]?{_NUMBER}(?:\s*(?:[-–]|to|x|×)\s*{_NUMBER}){{0,3}}\s*"
    r"(?:mm|cm|km|m|kg|g|lbs?|ft|inch|inches|feet|met(?:er|re)s?|pounds?|kilograms?|years?)\b",
    re.IGNORECASE,
)
# What --fix removes must be sure: "absolutely round eyes" and "these are lined with trees" are traits.
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
_MOST_REPAIRS: Final = 20  # of a hostile text; one repair can uncover another
_MOJIBAKE: Final = re.compile("[ÂÃâ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")


def cut(text: str) -> str | None:
    """Complain of an end that no sentence has."""
    if text.count("(") > text.count(")"):
        return "a bracket is not closed"
    found = _CUT.search(text.rstrip())
    return f"it ends in {found[0]!r}" if found else None


def hedge(text: str) -> str | None:
    """Complain of a word that makes the trait uncertain."""
    return _word(_HEDGE, text)


def negation(text: str) -> str | None:
    """Complain of a word that denies."""
    return _word(_NEGATION, text)


def unseen(text: str) -> str | None:
    """Complain of what a photo does not show."""
    return _word(_UNSEEN, text)


def chatter(text: str) -> str | None:
    """Complain of words to the reader in the place of a trait."""
    introduces = text.rstrip().endswith(":") and not _SENTENCES.search(text)
    return _word(_CHATTER, text) or ("it introduces a list" if introduces else None)


def debris(text: str) -> str | None:
    """Complain of the remains of encodings, markup and list marks."""
    if "\ufffd" in text:
        return "a character was lost (\ufffd)"
    if thinks(text):
        return "it holds what the model wrote to itself"
    mended = mend(text)
    return None if mended == text else f"should read {mended!r}"


def mend(text: str) -> str:
    """Return a descriptor without thoughts and the remains of encodings, markup and list marks."""
    before = None
    for _ in range(_MOST_REPAIRS):
        if text == before:
            break
        before = text
        text = _recoded(text) if _MOJIBAKE.search(text) else text
        text = _MARKS.sub("", plain(spoken(text).text))
    return text


def wordless(text: str) -> str | None:
    """Complain of a text without a letter."""
    return None if not text.strip() or any(map(str.isalpha, text)) else "it has no letter"


def sentence(text: str) -> str | None:
    """Complain of a whole sentence in the place of a feature."""
    return _word(_SENTENCE, text)


def _recoded(text: str) -> str:
    """Return UTF-8 that was once read as Windows-1252 as it was meant, or the text itself."""
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def _word(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return f"it says {found[0]!r}" if found else None
