"""The marks of lists: bullets of every script, numbers, letters, emoji, and what only looks like one. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

DASHES: Final = "-–—−‐‑‒―﹣－"
_DOTS: Final = "•‣⁃◦∙●○◎◉▪▫■□◻◼◽◾▸▹►▻▶▷◆◇◈❖⬤⚫⚪★☆✦✧✶✱➢➤➔➜➥→⇒»›✓✔✗✘☐☑☒❑❒·・‧⋅※♦☞👉🔹🔸🔷🔶"
_EMOJI: Final = "[\U0001f000-\U0001faff\u2600-\u263f\u2643-\u27bf\u2b00-\u2bff\u2300-\u23ff\u3297\u3299]"
_BULLET: Final = re.compile(
    rf"""(?: [{DASHES}]++(?![{DASHES}>]) | [{_DOTS}]
      | {_EMOJI}[\ufe0f\u200d\u2640\u2642\U0001f000-\U0001faff]*+(?=[\s\ufe0f])
    )[\ufe0e\ufe0f]?[ \t\u3000]*+
    | [*+＊~][ \t\u3000]++ | [*+][ \t]*+$""",
    re.VERBOSE,
)
_NUMBER: Final = re.compile(
    r"""(?P<bracket>[(\[])?(?:no\.\ ?|\#)?(?P<number>\d{1,3})
    (?: (?(bracket)[)\]]|(?:\.?\)|\]))[.:,]?[ \t\u3000]*+
      | (?(bracket)(?!))(?: [.]\d{1,2}(?:[.]\d{1,2})?(?:[.)][ \t]++)
        | [.、。:][ \t\u3000]++ | [.、](?=[^\W\d]|["“'‘«*_(]|$) | [ \t]++[-–—][ \t]++ )
    )
    | \d\ufe0f?\u20e3[ \t]*+ | 🔟[ \t]*+
    | [①-⑳⑴-⒇⒈-⒛⒜-⒵Ⓐ-ⓩ⓪❶-❿➀-➓㈠-㈩㉑-㉟㊀-㊉㊱-㊿][ \t\u3000]*+[.)、:]?[ \t\u3000]*+
    | (?:[(（〔][一二三四五六七八九十]{1,3}[)）〕]|[一二三四五六七八九十]{1,3}[、.．:])[ \t\u3000]*+
    | 第[一二三四五六七八九十\d]{1,3}[点點条條项項个個]?[、，,:：.][ \t\u3000]*+
    | (?:feature|descriptor|trait|point|item|characteristic|attribute|field\ mark|merkmal|rasgo|caract[ée]ristique)
      [ \t]*\#?\d{1,2}[ \t]*[:.)–-][ \t]*+
    | [(]?[A-Za-z][)][ \t]*+ | [(][ivx]{1,5}[)][ \t]*+ | [ivx]{1,5}[)][ \t]++""",
    re.VERBOSE | re.IGNORECASE,
)
# What counts only in a sequence; of several letters only Roman numbers are one.
_UNSURE: Final = re.compile(
    r"(?P<open>[(（])?(?P<mark>\d{1,3}|[IVXL]{1,6}|[ivxl]{1,6}|[^\W\d_])(?P<close>[.)）．、:]|(?<=\d))[ \t\u3000]++(?=\S)"
    r"|(?P<dotted>\d{1,2}\.\d{1,2})[ \t]++(?=\S)"
)
_ALPHABETS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзиклмнопрстуфхцчшщэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "가나다라마바사아자차카타파하",
    "アイウエオカキクケコサシスセソ",
    "أبجدهوزحطيكلمنسعفصقرشت",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "กขคงจฉชซญดตถทธนบปผพฟมยรลวสหอ",
    "甲乙丙丁戊己庚辛壬癸",
)
_ROMAN: Final = {"i": 1, "v": 5, "x": 10, "l": 50}
_BOX: Final = re.compile(r"\[[ xX✓✔]?\][ \t]+")
Mark = tuple[str, bool]  # the text after the mark, and whether that counts
RULE: Final = re.compile(r"\s*+([-*_=`~])(?:\s*+\1){2,}+\s*+\w*+\s*+")  # never back: a line can be a MiB


def marks(lines: Sequence[str]) -> list[Mark | None]:
    """Return each line's text after its list mark, or None for a line without one."""
    strong = [sure_mark(line) for line in lines]
    rest = [mark[0] if mark else line.strip() for line, mark in zip(lines, strong, strict=True)]
    sure = _in_sequence([_unsure(text) for text in rest], alone=len(lines) == 1)
    found: list[Mark | None] = []
    for mark, text, end in zip(strong, rest, sure, strict=True):
        if end:
            found.append((text[end:].strip(), True if mark is None else mark[1]))
        else:
            found.append(mark)
    return found


def sure_mark(line: str) -> Mark | None:
    """Return a line's text after a mark that can be nothing else, and whether it is a number."""
    if RULE.fullmatch(line):
        return None
    text = line.lstrip(" \t\u3000")
    heading = text.startswith("#")
    text = text.lstrip("#").lstrip() if heading and text.lstrip("#")[:1] == " " else text
    numbered: bool | None = None
    for _ in range(4):
        bare = text.lstrip("*_") if text[:1] in "*_" else text
        emphasis = text[: len(text) - len(bare)]
        if (found := _NUMBER.match(bare)) is not None and numbered is None:
            numbered = True
        elif heading:
            break
        elif not emphasis and (found := _BULLET.match(text)) is not None:
            numbered = bool(numbered)
        else:
            break
        text = bare[found.end() :] if found.re is _NUMBER else text[found.end() :]
        if found.re is _NUMBER and emphasis:
            text = text[len(emphasis) :] if text.startswith(emphasis) else text.replace(emphasis, "", 1)
        if (box := _BOX.match(text)) is not None:
            text = text[box.end() :]
    return None if numbered is None else (text.strip(), numbered)


def _unsure(text: str) -> tuple[dict[str, int], int]:
    """Return what number a mark could be, by the kind of numbering, and where the text goes on after it."""
    bare = text.lstrip("*_") if text[:1] in "*_" else text
    found = _UNSURE.match(bare)
    if found is None or bare != text:
        return {}, 0
    values: dict[str, int] = {}
    if found["dotted"]:
        major, minor = map(int, found["dotted"].split("."))
        return {f"{major}.": minor}, found.end()
    letter, close = found["mark"].lower(), found["close"] or " "
    if letter.isdecimal():
        values[f"number{close}"] = int(letter)
    if letter and not letter.strip("ivxl") and close != " ":
        values[f"roman{close}"] = _roman(letter)
    for alphabet in _ALPHABETS:
        if len(letter) == 1 and letter in alphabet:
            values[f"{alphabet[0]}{close}"] = alphabet.index(letter) + 1
    return values, found.end()


def _in_sequence(marks: Sequence[tuple[dict[str, int], int]], *, alone: bool) -> list[int]:
    """Return for each line where its text begins after a mark that is one of a sequence from 1, else 0."""
    ends = [0] * len(marks)
    runs: dict[str, tuple[int, list[int]]] = {}  # by kind: the last number, and the lines so far
    for at, (values, _) in enumerate(marks):
        for kind, value in values.items():
            last, lines = runs.get(kind, (0, []))
            runs[kind] = (
                (value, [*lines, at] if len(lines) < 2 else [at])
                if value == last + 1
                else ((1, [at]) if value == 1 else (last, lines))
            )
            enough = 3 if kind == "number " else 2
            if (value == last + 1 and value >= enough) or (alone and kind == "number." and value == 1):
                for line in (*lines, at):
                    ends[line] = marks[line][1]
    return ends


def _roman(letters: str) -> int:
    values = [_ROMAN[letter] for letter in letters]
    return sum(
        -value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True)
    )


def split_marks(line: str) -> Iterator[str]:
    """Yield the lines that a line holds which has several marks: "• a • b", "1. a 2. b"."""
    text = line.strip()
    if text and text[0] in _DOTS and len(parts := re.split(rf"\s+{re.escape(text[0])}\ufe0f?\s*", text)) > 1:
        yield from (part if number == 0 else f"{text[0]} {part}" for number, part in enumerate(parts))
        return
    if (first := re.match(r"\(?1([.)])\s", text)) is not None:
        end, start, number = first[1], 0, 2
        while found := re.compile(rf"[\s;,]+(?:and |und |et |y )?(?=\(?{number}{re.escape(end)}\s)").search(
            text, start + 2
        ):
            yield text[start : found.start()]
            start, number = found.end(), number + 1
        yield text[start:] if start else line
        return
    yield line
