"""The article's prompt in German and Chinese, from the prompt to a store's descriptors and its checks."""

import pytest

from fieldmarks.generation.parse import attach, parse
from fieldmarks.generation.prompt import Prompt, forced_beginning, turns
from fieldmarks.records import Entry
from fieldmarks.store.lint import lint

ANSWERS = {
    "article-de": (
        "Laubfrosch",
        " hervortretende Augen\n- große Haftscheiben an den Zehen\n- Schenkel liegen eng an\n"
        "- ein dunkler Streifen von der Nase bis zur Hüfte",
        [
            "hervortretende Augen",
            "große Haftscheiben an den Zehen",
            "Schenkel liegen eng an",
            "ein dunkler Streifen von der Nase bis zur Hüfte",
        ],
    ),
    "article-zh": (
        "树蛙",
        " 突出的眼睛\n- 带有吸盘的圆形脚趾\n- 背部呈鲜绿色，腹部呈白色\n- 红色的喙（短而弯）",
        ["突出的眼睛", "带有吸盘的圆形脚趾", "背部呈鲜绿色，腹部呈白色", "红色的喙（短而弯）"],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_prompt_in_another_language_forces_a_list_and_its_answer_is_read(name: str) -> None:
    thing, answer, descriptors = ANSWERS[name]
    rendered = Prompt.load(name).render(thing)
    assert thing in rendered
    assert "{" not in rendered
    assert forced_beginning(rendered) == "-"
    assert rendered.endswith(("：\n-", ":\n-"))
    (_, asked), (_, begun) = turns(rendered)
    assert asked.endswith(("？", "?"))
    assert begun.endswith("\n-")
    whole, continued = attach("-", answer)
    assert continued
    parsed = parse(whole, finish_reason="stop")
    assert list(parsed.descriptors) == descriptors
    assert lint([Entry(thing, tuple(descriptors))]) == []


@pytest.mark.parametrize(
    "answer",
    [
        "- 突出的眼睛\n- 粘性脚趾",
        "•突出的眼睛\n•粘性脚趾",
        "1、突出的眼睛\n2、粘性脚趾",
        "（1）突出的眼睛；\n（2）粘性脚趾。",
        "以下是一些视觉特征：\n- 突出的眼睛\n- 粘性脚趾\n\n希望这有帮助！",
    ],
)
def test_chinese_lists_are_read_in_their_usual_forms(answer: str) -> None:
    assert list(parse(answer, finish_reason="stop").descriptors) == ["突出的眼睛", "粘性脚趾"]


def test_german_words_around_a_list_are_left_out() -> None:
    answer = "Hier sind einige Merkmale:\n\n- hervortretende Augen\n* lange Beine\n\nIch hoffe, das hilft!"
    assert list(parse(answer, finish_reason="stop").descriptors) == ["hervortretende Augen", "lange Beine"]
