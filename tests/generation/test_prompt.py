"""Prompts as files: read, refused, rendered, and taken apart into a chat's turns."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import ClassNameError, PromptError
from fieldmarks.generation.prompt import Prompt, forced_beginning, shipped_names, turns
from fieldmarks.paths import shipped
from fieldmarks.records import class_name

NAMES = st.text(min_size=1, max_size=40).filter(lambda text: _is_name(text)).map(class_name)


def _is_name(text: str) -> bool:
    try:
        return bool(class_name(text))
    except ClassNameError:
        return False


def test_the_article_prompt_is_the_articles_to_the_byte() -> None:
    raw = (shipped("prompts") / "article.txt").read_bytes()
    assert Prompt.load("article").text.encode() == raw
    assert raw.endswith(b":\n-")
    assert Prompt.load("article").render("lemur") == (
        "Q: What are useful features for distinguishing a lemur in a photo?\n"
        "A: There are several useful visual features to tell there is a lemur in a photo:\n-"
    )


def test_shipped_prompts_render_and_none_ends_in_a_blank() -> None:
    names = ["article", "article-de", "article-zh", "differential", "sentences", "two-shot"]
    assert shipped_names() == names
    for name in shipped_names():
        text = Prompt.load(name).render("owl", other="hawk")
        assert text == text.rstrip()
        assert "{" not in text
        assert "an owl" in text or name.startswith("article")
        assert turns(text)[-1][0] == "assistant"


def test_sentences_force_no_bullet() -> None:
    prompt = Prompt.load("sentences")
    assert prompt.style == "sentences"
    assert forced_beginning(prompt.render("owl")) == ""


@given(NAMES)
def test_a_hostile_name_is_only_text(name: str) -> None:
    template = Prompt.load("article")
    assert template.render(name) == template.text.replace("{class}", name)


@given(NAMES)
def test_turns_lose_nothing_but_their_marks(name: str) -> None:
    asked, begun = turns(Prompt.load("article").render(name))
    assert asked == ("user", f"What are useful features for distinguishing a {name} in a photo?")
    assert begun == (
        "assistant",
        f"There are several useful visual features to tell there is a {name} in a photo:\n-",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("List marks of {class}:\n-", [("user", "List marks of fox:"), ("assistant", "-")]),
        ("List marks of {class}.", [("user", "List marks of fox."), ("assistant", "")]),
        ("Q: {class}?", [("user", "fox?"), ("assistant", "")]),
        ("Marks of {class}\n1.", [("user", "Marks of fox"), ("assistant", "1.")]),
    ],
)
def test_turns_of_other_forms(text: str, expected: list[tuple[str, str]]) -> None:
    assert turns(Prompt.parse(text, "x.txt", "x").render("fox")) == expected


def test_worked_examples_are_turns_of_their_own() -> None:
    roles = [role for role, _ in turns(Prompt.load("two-shot").render("fox"))]
    assert roles == ["user", "assistant"] * 3


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(
        b'\xef\xbb\xbf---\r\nname: my own\r\nstyle: sentences\r\nstop: ["END"]\r\n---\r\n'
        b"About {class}, {concept}:\r\n-\r\n\r\n"
    )
    prompt = Prompt.load(path)
    assert prompt == Prompt("my own", "About {class}, {concept}:\n-", "sentences", ("END",))
    assert prompt.render("fox", concept="an animal") == "About fox, an animal:\n-"
    with pytest.raises(PromptError, match=r"^prompt 'my own' has \{concept\}, and no concept is given$"):
        prompt.render("fox")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no placeholder", "x: {class} does not occur: put it where the class name goes"),
        (
            "{class} {klass}",
            "x: placeholder {klass} is unknown: expected {class}, {article}, {concept}, {other}",
        ),
        ("---\nname: a\n{class}", "x: the header has no end: close it with a line of ---"),
        (
            "---\ncolour: red\n---\n{class}",
            "x: header line 'colour: red' is unknown: expected name, style or stop",
        ),
        ("---\nstyle: haiku\n---\n{class}", "x: style 'haiku' is unknown: write bullets or sentences"),
        (
            "---\nstop: END\n---\n{class}",
            'x: stop: expected a JSON list of at most 4 strings, like ["\\n\\n", "\\nQ:"]',
        ),
        (
            '---\nstop: ["a","b","c","d","e"]\n---\n{class}',
            'x: stop: expected a JSON list of at most 4 strings, like ["\\n\\n", "\\nQ:"]',
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(PromptError) as refusal:
        Prompt.parse(text, "x", "x")
    assert str(refusal.value) == message


def test_a_file_that_is_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.txt").write_bytes(b"{class}" * 20_000)
    for name, message in [
        ("binary.txt", "is UTF-16 text: save it as UTF-8"),
        ("huge.txt", "has over 100,000 bytes"),
        (
            "missing.txt",
            "pass a file, or one of article, article-de, article-zh, differential, sentences, two-shot",
        ),
        ("", "is a folder: pass a file"),
    ]:
        with pytest.raises(PromptError, match=message):
            Prompt.load(tmp_path / name)
    with pytest.raises(PromptError, match="unknown prompt 'articel'"):
        Prompt.load("articel")
