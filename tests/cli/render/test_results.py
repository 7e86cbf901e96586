"""Results as lines, each form exactly."""

import json
from dataclasses import replace

import click
import pytest

from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction
from fieldmarks.cli.render.results import header, printer

GREEN, YELLOW, BOLD, END = "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"


def _shown(result: Prediction | Failure, form: str, *, top: int = 1, explain: bool = False) -> list[str]:
    printing = printer(form, ["tree frog", "owl"], top=top, explain=explain)
    return [*header(form), *map(click.unstyle, printing(result))]


def test_a_table(prediction: Prediction, failure: Failure) -> None:
    assert _shown(prediction, "table") == [" 90.0%  tree frog  photos/one.png  (name alone: owl)"]
    assert _shown(failure, "table") == []
    assert _shown(replace(prediction, label=None, baseline=None), "table", top=2) == [
        " 90.0%  (unsure)   photos/one.png",
        " 10.0%  owl",
    ]


def test_a_table_with_marks(prediction: Prediction) -> None:
    assert _shown(prediction, "table", explain=True)[1:] == [
        "          tree frog           logit     0",
        "            protruding eyes    25.5     █████████████████████",
        "            a wide mouth       23.0     ███████████████████",
        "          owl                 logit     0",
        "            big eyes           24.1     ████████████████████",
        "            a hooked beak      −3.2  ███",
        "          decided: protruding eyes 25.5 against big eyes 24.1",
    ]


def test_the_colours_of_marks(prediction: Prediction) -> None:
    rows = list(printer("table", ["tree frog", "owl"], top=1, explain=True)(prediction))
    assert rows[2] == f"            protruding eyes    25.5     {GREEN}█████████████████████{END}"
    assert rows[5] == f"            big eyes           24.1     {YELLOW}████████████████████{END}"
    assert rows[7] == f"{BOLD}          decided: protruding eyes 25.5 against big eyes 24.1{END}"
    assert [row.count("\x1b") for row in rows] == [0, 0, 2, 2, 0, 2, 2, 2]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_machine_forms_have_no_colours(prediction: Prediction, form: str) -> None:
    printing = printer(form, ["tree frog", "owl"], top=2, explain=True)
    assert "\x1b" not in "".join((*header(form), *printing(prediction)))


def test_relative_marks(prediction: Prediction) -> None:
    marks = (Mark("owl", "beak", 3.0, 1.5), Mark("owl", "eyes", 2.0, -0.5))
    relative = replace(prediction, explanation=Explanation(marks, (), None))
    assert _shown(relative, "table", explain=True)[1:] == [
        "          owl          z        0",
        "            beak   +1.50        ██████████████████",
        "            eyes   −0.50  ██████",
    ]
    assert json.loads(_shown(relative, "jsonl", explain=True)[0])["marks"][0]["z"] == 1.5


def test_json_lines(prediction: Prediction) -> None:
    score = '{"class":"tree frog","probability":0.9,"logit":24.2}'
    baseline = '{"class":"owl","probability":0.6,"logit":21.5}'
    assert _shown(prediction, "jsonl") == [
        f'{{"image":"photos/one.png","label":"tree frog","scores":[{score}],"baseline":{baseline}}}'
    ]
    explained = json.loads(_shown(prediction, "jsonl", top=2, explain=True)[0])
    assert list(explained) == ["image", "label", "scores", "baseline", "marks", "decided"]
    assert explained["marks"][0] == {"class": "tree frog", "descriptor": "protruding eyes", "logit": 25.5}
    assert explained["decided"] == {"for": explained["marks"][0], "against": explained["marks"][2]}
    assert _shown(Failure("a", "b"), "jsonl") == ['{"image":"a","error":"b"}']


def test_csv(prediction: Prediction) -> None:
    assert _shown(prediction, "csv", top=2) == [
        "image,rank,class,probability,logit,baseline,error",
        "photos/one.png,1,tree frog,0.9,24.2,owl,",
        "photos/one.png,2,owl,0.1,22,owl,",
    ]
    assert _shown(Failure('a,"b', "c\nd"), "csv")[1] == '"a,""b",,,,,,"c\nd"'


def test_nothing_of_a_stranger_reaches_the_terminal_raw(hostile: Prediction) -> None:
    rows = printer("table", ["tree frog", "owl"], top=1, explain=True)(hostile)
    text = "\n".join(rows)
    for ours in (GREEN, YELLOW, BOLD, END):
        text = text.replace(ours, "")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31m" in text
