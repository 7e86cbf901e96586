"""Every rule finds what it is for and leaves its like alone; what can be fixed safely is fixed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.paths import shipped_names
from fieldmarks.records import Entry
from fieldmarks.store import Store, lint_rules
from fieldmarks.store.edits import Stamp
from fieldmarks.store.formats import load
from fieldmarks.store.lint import Finding, counts, fixed, grouped, lint, read_examples
from fieldmarks.store.lint_rules import RULES, Config, Severity
from fieldmarks.tables import parse_table

# The bullets of the two worked examples in the paper's prompt.
PAPER_EXAMPLES = """
- four-limbed primate
- black, grey, white, brown, or red-brown
- wet and hairless nose with curved nostrils
- long tail
- large eyes
- furry bodies
- clawed hands and feet
- electronic device
- black or grey
- a large, rectangular screen
- a stand or mount to support the screen
- one or more speakers
- a power cord
- input ports for connecting to other devices
- a remote control
"""


def _found(code: str, findings: list[Finding]) -> list[tuple[str, int | None]]:
    return [(finding.name, finding.number) for finding in findings if finding.rule.code == code]


def _of(text: str) -> set[str]:
    return {finding.rule.code for finding in lint([Entry("thing", (text,))])}


FAULTY = {
    "FM102": ["", "  "],
    "FM202": [
        "Sure, here they are",
        "Here are some features:",
        "Here is a list",
        "As an AI model",
        "Colours:",
        "Absolutely! These are",
        "Okay",
        "I\u2019m a model",
        "There are several distinctive features of a frog:1.",
        "These are some of its characteristics",
        "useful visual features",
    ],
    "FM203": ["a tail with", "red, blue and", "a stripe (black", "long, thin,", "cabin located in the"],
    "FM204": [
        "<think>perhaps</think>legs",
        "red beak<|im_end|>",
        "a beak[^1]",
        "a bird\u2019s beak\ufffd",
        "itâ€™s green",
        "caf\u00c3\u00a9-brown",
        "- a beak",
        "1. a beak",
        "**bold**",
        "a&amp;b",
        "a\u00a0b",
        "zero\u200bwidth",
        "two  blanks",
        "<b>red</b>",
        "• a dot",
    ],
    "FM302": ["may be green", "Often red", "can be yellow", "tends to be round"],
    "FM303": ["no tail", "without wings", "not green", "doesn't have legs", "lacks a tail", "lack of hair"],
    "FM304": [
        "a strong smell",
        "tastes sweet",
        "a loud noise",
        "native to Asia",
        "weighs 20 kg",
        "up to 3 metres",
        "costs a lot",
        "nocturnal",
        "a sweet scent",
        "12 inches wide",
        "barks at night",
        "howls",
        "hooting",
    ],
    "FM106": ["...", "12", "—"],
    "FM307": [
        "It is a seabird.",
        "They have long wings.",
        "The bird is small and brown.",
        "It usually has a crest",
    ],
    "FM305": ["word " * 15 + "word"],
}
FINE = [
    "a long tail with a white tip",
    "webbed feet",
    "feet in shallow water",
    "a notch in the upper edge",
    "brown bark",
    "knotted rope",
    "a nose like a snout",
    "two to four legs",
    "a mayfly-like wing",
    "a cane handle",
    "sound-hole",
    "one eye",
    "it’s green",
    "café-brown",
    "half-open beak",
    "a surface of ice",
    "a certain shade of red",
    "hereford markings",
    "absolutely round eyes",
    "sure-footed hooves",
    "okay color",
    "there are several dark bars",
    "useful features including a hook",
    "overall, a slender bird",
    "12 stripes",
    "word " * 14 + "word",
]


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in FAULTY.items() for text in texts])
def test_a_faulty_descriptor_is_found(code: str, text: str) -> None:
    assert code in _of(text)


@pytest.mark.parametrize("text", FINE)
def test_a_fine_descriptor_is_left_alone(text: str) -> None:
    assert _of(text) - {"FM304" if text == "sound-hole" else ""} == set()


def test_rules_on_lists() -> None:
    entries = [
        Entry("empty"),
        Entry("one", ("long tail", "Long, tail!", "red")),
        Entry("two", ("long tail", "blue")),
        Entry("three", ("long tail", "blue")),
        Entry("Crane", ("yellow",), finish_reason="length"),
        Entry("crane", ("an orange crane", "cranes", "craned neck")),
        Entry("sea_lion", ("a sea lion's head",)),
    ]
    findings = lint(entries, Config(shared_by=3, examples=frozenset({"red"})))
    assert _found("FM101", findings) == [("empty", None)]
    assert _found("FM103", findings) == [("one", 2)]
    assert _found("FM104", findings) == [("two", None), ("three", None)]
    assert _found("FM105", findings) == [("one", 1), ("one", 2), ("two", 1), ("three", 1)]
    assert _found("FM201", findings) == [("one", 3)]
    assert _found("FM203", findings) == [("Crane", None)]
    assert _found("FM301", findings) == [("crane", 1), ("crane", 2), ("sea_lion", 1)]
    assert _found("FM401", findings) == [("Crane", None), ("crane", None)]
    assert _found("FM402", findings) == [("sea_lion", None)]
    assert _found("FM403", findings) == [("Crane", None), ("crane", None)]
    (shared,) = [finding for finding in findings if finding.rule.code == "FM105" and finding.name == "two"]
    assert shared.to_dict() == {
        "code": "FM105",
        "rule": "shared",
        "severity": "warning",
        "class": "two",
        "number": 1,
        "descriptor": "long tail",
        "message": "3 of 7 classes have it: it cannot tell them apart",
    }


def test_tokens_are_counted_by_what_is_given() -> None:
    findings = lint([Entry("x", ("aaa", "a"))], Config(tokens=len, max_tokens=2))
    assert _found("FM306", findings) == [("x", 1)]


def test_rules_are_switched_and_graded() -> None:
    entries = [Entry("x", ("may smell",))]
    assert [finding.rule.code for finding in lint(entries, Config(frozenset({"FM304"})))] == ["FM302"]
    (hedge, _) = lint(entries, Config(severity={"FM302": Severity.HINT}))
    assert hedge.severity is Severity.HINT


def test_the_table_is_in_order_and_explains_itself() -> None:
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.doc.endswith(".") for rule in RULES)


@pytest.mark.parametrize("name", ["cifar10", "frogs", "imagenette"])
def test_shipped_stores_pass_strictly(name: str) -> None:
    assert name in shipped_names()
    store = Store(name)
    assert len(store) == {"cifar10": 10, "frogs": 2, "imagenette": 10}[name]
    assert [finding.to_dict() for finding in lint(store.entries(), Config(examples=_paper_bullets()))] == []


@pytest.mark.slow
def test_no_shipped_store_has_an_error() -> None:
    assert {"cifar10", "frogs", "imagenette"} <= set(shipped_names())
    for name in shipped_names():
        errors = [finding for finding in lint(Store(name).entries()) if finding.severity is Severity.ERROR]
        assert [finding.to_dict() for finding in errors] == []


def _paper_bullets() -> frozenset[str]:
    return frozenset(line[2:] for line in PAPER_EXAMPLES.strip().splitlines())


@pytest.mark.slow
def test_the_papers_file(check_data: Path, tmp_path: Path) -> None:
    (tmp_path / "examples.txt").write_text(
        f"Q: What are useful features?\nA:{PAPER_EXAMPLES}\nQ: {{class}}\nA:\n-"
    )
    text = (check_data / "descriptors" / "descriptors_imagenet.json").read_text()
    entries = [
        Entry(name, tuple(some))
        for name, some in load(parse_table(text.encode(), "x.json", ".json")).lists.items()
    ]
    findings = lint(entries, Config(examples=read_examples(tmp_path / "examples.txt")))
    assert counts(findings)["FM201"] == 270
    same = {name for name, _ in _found("FM104", findings)}
    assert len(same) == 13
    assert {"monitor", "oscilloscope", "projector", "reflex camera", "CRT monitor", "television"} <= same
    assert _found("FM203", findings) == [("mosque", 6), ("trimaran", 6)]


def test_fixing() -> None:
    entry = Entry(
        "frog", ("- wide  mouth", "Sure, here you go:", "Wide mouth.", "", "green &amp; brown", "may croak")
    )
    line = fixed(entry, (), Stamp(change="c"))
    assert line is not None
    assert line.descriptors == ("wide mouth", "green & brown", "may croak")
    assert fixed(line, (), Stamp()) is None
    untouched = fixed(entry, ("FM102", "FM103", "FM202", "FM204"), Stamp())
    assert untouched is None


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("**\n1. bold head", "bold head"),
        ("-1. small body", "small body"),
        ("-----a ruled line", "a ruled line"),
        (" -->red tail", "red tail"),
        ("# - 2) blue", "blue"),
    ],
)
def test_marks_behind_marks_are_mended_at_once(text: str, whole: str) -> None:
    line = fixed(Entry("frog", (text,)), (), Stamp())
    assert line is not None
    assert line.descriptors == (whole,)


def test_chatter_behind_a_mark_is_removed_at_once() -> None:
    line = fixed(Entry("frog", ("- Sure, here you go", "wide mouth")), (), Stamp())
    assert line is not None
    assert line.descriptors == ("wide mouth",)


def test_a_list_below_whole_sentences_is_not_only_an_introduction() -> None:
    assert "FM202" not in _of("It has wide stripes. Its colours are:")


def test_a_sentence_of_traits_is_not_words_to_the_reader() -> None:
    for text in (
        "these are lined with trees",
        "I can see a red shed",
        "There are several marks, including a bar",
    ):
        assert "FM202" not in _of(text)


@pytest.mark.slow
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.text(st.sampled_from("-*•#>1.) _`~&;a\n<\\[^]â€™:")).map("Sure".__add__)
        | st.text(st.sampled_from("-*•#>1.) _`~&;a\n<\\[^]â€™:"))
    )
)
def test_mending_settles(descriptors: list[str]) -> None:
    entry = Entry("x", tuple(descriptors))
    line = fixed(entry, (), Stamp())
    entry = line or entry
    assert fixed(entry, (), Stamp()) is None
    assert not {finding.rule.code for finding in lint([entry])} & {"FM102", "FM103"}
    json.dumps(entry.descriptors).encode()


@pytest.mark.parametrize(
    "measure",
    [
        "2.5 meters",
        "1,500 kg",
        "1/2 inch",
        "1 1/2 inches",
        "½ inch",
        ".5 ft",
        "5–10 cm",
        "10 to 20 feet",
        "5 x 7 cm",
    ],
)
def test_a_measure_is_quoted_whole(measure: str) -> None:
    assert lint_rules.unseen(f"about {measure} long") == f"it says {measure!r}"


GERMAN = (
    "hervortretende Augen",
    "ein kurzer, gebogener Schnabel",
    "Federn liegen eng an",
    "Fleck in der Form einer Not",
    "glatte Haut ohne Schuppen",
)
CHINESE = ("突出的眼睛", "背部呈鲜绿色，腹部呈白色", "眼睛后方有一条黑色条纹", "12条条纹", "喙（短而弯）")


@pytest.mark.parametrize("texts", [GERMAN, CHINESE, ("大きな目", "黄色い嘴と赤い足")])
def test_rules_on_english_words_leave_other_languages_alone(texts: tuple[str, ...]) -> None:
    assert lint([Entry("thing", texts)]) == []


def test_an_entry_without_signs_is_of_its_stores_language() -> None:
    plain = Entry("eins", ("Federn liegen eng an",))
    assert lint([plain, Entry("zwei", GERMAN[:2])]) == []
    assert _found("FM203", lint([plain, Entry("two", ("a tail with a white tip",))])) == [("eins", 1)]


@pytest.mark.parametrize(
    ("code", "name", "text"),
    [
        ("FM202", "树蛙", "背部的颜色："),
        ("FM203", "树蛙", "绿色的背部、"),
        ("FM203", "树蛙", "红色的喙（短"),
        ("FM301", "树蛙", "树蛙的眼睛很大"),
        ("FM305", "树蛙", "身体上覆盖着光滑湿润的皮肤，皮肤上常有深色斑点和细小的疣状突起，四肢修长"),
        ("FM304", "Frosch", "ein Körper von etwa 5 cm"),
        ("FM202", "Frosch", "Hier sind einige Merkmale:"),
        ("FM301", "Frosch", "die Augen vom Frosch"),
    ],
)
def test_what_no_language_should_have_is_found_in_each(code: str, name: str, text: str) -> None:
    assert code in {finding.rule.code for finding in lint([Entry(name, (text,))])}


def test_what_is_said_of_several_classes_is_one_group() -> None:
    same = [Entry(name, ("fur", "a tail")) for name in ("cat", "dog", "fox", "elk", "cow")]
    entries = [*same, Entry("owl"), Entry("eft"), Entry("jay", ("a beak",)), Entry("tit", ("a beak",))]
    groups: dict[str, list[list[str]]] = {}
    for group in grouped(lint(entries)):
        groups.setdefault(group[0].rule.code, []).append([finding.name for finding in group])
    assert groups["FM101"] == [["owl", "eft"]]
    assert groups["FM104"] == [["cat", "dog", "fox", "elk", "cow"], ["jay", "tit"]]
    messages = {finding.message for finding in lint(entries) if finding.rule.code == "FM104"}
    assert "'cat', 'dog', 'fox', 'elk' and 1 more have the same list: they cannot be told apart" in messages
