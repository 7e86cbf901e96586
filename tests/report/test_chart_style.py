"""The look of charts: names fit for every file, the pages' colours, the same bytes each time."""

import re
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from fieldmarks.report import chart_style
from fieldmarks.report.chart_files import FORMS
from fieldmarks.report.chart_style import WIDE, Chart, axes, figure, label
from fieldmarks.report.document import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "{http://www.w3.org/2000/svg}"


def _chart(*names: str) -> Chart:
    def draw() -> "Figure":
        drawn = figure(100)
        axes(drawn, 100, 10, WIDE - 110, 60).set_yticks(
            range(len(names)), [label(name, 26) for name in names]
        )
        return drawn

    return Chart("names", "Names", "", draw)


def _texts(svg: bytes) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_script_stays_text() -> None:
    names = ["蛙", "ضفدع", "🐸 <b>&amp;", "$x^2$", r"\frac{a}{b}", "a\ufffeb", "a\nb\x00"]
    texts = _texts(_chart(*names).svg())
    assert texts[-7:] == ["蛙", "ضفدع", "🐸 <b>&amp;", "$x^2$", r"\frac{a}{b}", "a\ufffdb", r"a\nb\x00"]


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.text().filter(str.strip), min_size=1, max_size=40))
@example([chr(code) for code in range(32, 0x20000, 3000) if chr(code).strip()])
def test_any_names_make_a_drawing(names: list[str]) -> None:
    chart = _chart(*names)
    assert _texts(chart.svg())[-len(names) :] == [label(name, 26) for name in names]
    assert chart.file("png").startswith(b"\x89PNG")


@pytest.mark.slow
@given(st.text(), st.integers(2, 40))
def test_labels_fit(name: str, columns: int) -> None:
    text = label(name, columns)
    assert cell_len(text) <= columns
    assert text.isprintable() or unicodedata.category(next(c for c in text if not c.isprintable()))[0] in "CZ"


def test_labels_that_are_cut() -> None:
    assert label("great grey owl", 14) == "great grey owl"
    assert label("great grey owl", 12) == "great gr…owl"
    assert label("東京都の蛙", 10) == "東京都の蛙"
    assert label("東京都の蛙", 9) == "東京都…蛙"
    assert label("a" + "\u0301" * 5000, 5) == "a" + "\u0301" * (chart_style.LONGEST_NAME - 1)


def test_the_same_bytes_each_time() -> None:
    chart = _chart("owl", "frog")
    assert chart.svg() == chart.svg()
    assert [chart.file(form) for form in FORMS] == [chart.file(form) for form in FORMS]


def test_sizes_are_css_pixels() -> None:
    assert ElementTree.fromstring(_chart("owl").svg()).get("viewBox") == f"0 0 {WIDE} 100"


def test_settings_are_put_back() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 40, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        other = _chart("owl").svg()
        assert dict(matplotlib.rcParams) == before
    assert other == _chart("owl").svg()  # nor does the user's own style change a chart


def test_the_colours_are_the_pages() -> None:
    light, _, _ = PALETTE.read_text("utf-8").partition("@media")
    css = dict(re.findall(r"--(\w+): (#\w{6});", light))
    ours = {name: getattr(chart_style, name.upper()) for name in ("ink", "soft", "line", "lead")}
    assert {name: css[name] for name in ours} == ours


@pytest.mark.parametrize("package", ["matplotlib", "scipy"])
def test_what_is_not_installed_is_told(package: str) -> None:
    script = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from fieldmarks.report import chart_style\n"
        f"try: chart_style.needed('{package}.x')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    command = "pip install 'matplotlib>=3.10' 'scipy>=1.15'"
    assert shown == f"ReportError charts need {package}: {command}\n"
