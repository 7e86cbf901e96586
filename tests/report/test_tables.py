"""Tables for papers and spreadsheets: the figures of the runs, and no markup or formula of a stranger."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.evaluation.comparison import Comparison, compare
from fieldmarks.evaluation.results import Evaluation
from fieldmarks.report import tables

HOSTILE = "=1+1|<b>a_b</b>$x$ & 5% {c}\\~^\n[d] “q”"


@pytest.fixture(scope="module")
def first() -> Evaluation:
    """Ten classes of birds."""
    return evaluation(BIRDS, 200, seeds=2)


@pytest.fixture(scope="module")
def two(first: Evaluation) -> Comparison:
    """A run beside one that gives its first two methods the other's answers."""
    photo, descriptors, *others = first.arms
    arms = (replace(photo, runs=descriptors.runs), replace(descriptors, runs=photo.runs), *others)
    return compare([("a.json", first), ("b.json", replace(first, arms=arms))])


def test_one_run_has_its_methods_beside_its_baseline(first: Evaluation) -> None:
    lines = tables.markdown(compare([("a.json", first)])).splitlines()
    descriptors = first.arms[1]
    assert lines[0] == "| Method | Top-1, % | vs photo, points | McNemar’s p | Mean per class, % |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert descriptors.difference
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    figures = tables.estimate(descriptors.top1), tables.difference(descriptors.difference)
    assert cells[:3] == ["descriptors", *figures]
    assert re.fullmatch(r"\d+\.\d \(\d+\.\d–\d+\.\d\)", cells[1])
    assert re.fullmatch(r"[+−]\d+\.\d \([+−]\d+\.\d to [+−]\d+\.\d\)", cells[2])
    assert lines[2].split("|")[3].strip() == "–"


def test_several_runs_have_their_lead_over_the_first(two: Comparison) -> None:
    content = tables.table(two)
    assert content.heading[:4] == ["Method", "Run", "Top-1, %", "vs a.json, points"]
    assert [row[:2] for row in content.rows[:2]] == [["photo", "a.json"], ["photo", "b.json"]]
    assert content.rows[0][3] == "–"
    lead = two.groups[0].rows[1].lead
    assert content.rows[1][3] == tables.difference(lead)


def test_csv_has_every_number(two: Comparison) -> None:
    text = tables.csv(two)
    assert text.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert len(rows) == 8
    lead = two.groups[0].rows[1].lead
    assert lead
    assert (float(rows[1]["lead"]), float(rows[1]["lead_low"])) == (lead.value, lead.low)
    assert rows[1]["lead_to"] == "a.json"
    assert float(rows[0]["top1"]) == two.groups[0].rows[0].arm.top1.value
    assert rows[0]["lead"] == ""
    assert {row["run"] for row in rows} == {"a.json", "b.json"}


def test_what_is_not_compared_is_said_in_every_format(first: Evaluation) -> None:
    other = replace(first, images=("x.jpg", *first.images[1:]))
    comparison = compare([("a.json", first), ("b.json", other)])
    note = "1 of its 200 images are not in a"
    assert all(note in write(comparison) for write in tables.WRITERS.values())


def test_a_strangers_texts_stay_texts(first: Evaluation) -> None:
    arms = tuple(replace(arm, name=f"{HOSTILE}{number}") for number, arm in enumerate(first.arms))
    comparison = compare([(HOSTILE, replace(first, arms=arms)), ("b", replace(first, arms=arms))])
    markdown = tables.markdown(comparison)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines()[:10]} == {7}
    assert "<b>" not in markdown
    for row in csv.reader(io.StringIO(tables.csv(comparison).removeprefix("\ufeff"))):
        assert not [cell for cell in row if cell.startswith(("=", "+", "@"))]
    latex = tables.latex(comparison)
    body = latex.partition("\\midrule")[2].partition("\\bottomrule")[0]
    assert r"\textless{}b\textgreater{}a\_b" in body
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body.strip().splitlines()} == {5}


@given(st.text(max_size=20))
def test_no_letter_of_a_name_is_a_command_in_latex(name: str) -> None:
    escaped = tables._for_latex(name)
    allowed = (
        r"\\[&%$#_{}]|\\text(backslash|asciitilde|asciicircum|asciigrave|less|greater|bar)\{\}|\$-\$|\{\}"
    )
    assert not set(re.sub(allowed, "", escaped)) & set('\\&%$#_{}~^<>|"`')


def _has_latex() -> bool:
    """Whether LaTeX is here, with the package that the table needs."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _has_latex(), reason="no LaTeX with booktabs here")
def test_latex_sets_the_table_and_a_strangers_names_as_they_are(first: Evaluation, tmp_path: Path) -> None:
    name = r"\write18{x} 100% of a_b & c#d, $x$ ~ ^ {e}--f `g` <h> |ü|"
    arms = tuple(replace(arm, name=f"{name} {number}") for number, arm in enumerate(first.arms))
    other = replace(first, arms=arms, images=("x.jpg", *first.images[1:]))
    comparison = compare([(name, replace(first, arms=arms)), ("[b]", other)])
    document = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage[paperwidth=2000mm]{geometry}"
        f"\\usepackage{{booktabs}}\\begin{{document}}\n{tables.latex(comparison)}\\end{{document}}\n"
    )
    (tmp_path / "table.tex").write_text(document, "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF-")
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", "table.pdf", "-"]
        text = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert f"{name} 0" in text
        assert "[b] is not compared" in text


def test_latex_says_where_it_needs_another_engine(first: Evaluation) -> None:
    assert "LuaLaTeX" not in tables.latex(compare([("ü.json", first)]))
    arms = tuple(replace(arm, name=f"鳥 {number}") for number, arm in enumerate(first.arms))
    assert "LuaLaTeX" in tables.latex(compare([("a.json", replace(first, arms=arms))])).splitlines()[1]
