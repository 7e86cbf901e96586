"""The style of all charts (colours, fonts, sizes in CSS pixels), and their SVG, PNG and PDF files.

A chart is as wide as a page's column; on a narrow screen it scrolls.
An SVG keeps its text as text, so it shows every script that the reader's fonts have; PNG and PDF use the
fonts found here. No pyplot is used and no backend chosen; matplotlib's settings are restored.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

from fieldmarks.errors import ReportError
from fieldmarks.evaluation.results import Difference, Estimate
from fieldmarks.extras import install
from fieldmarks.report.numbers import MINUS
from fieldmarks.text import cut, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1f2a24"
SOFT: Final = "#56625b"
LINE: Final = "#dfdccf"
PLAIN: Final = "#77857c"  # controls and everything else outside the focus
LEAD: Final = "#2b6a4d"
SECOND: Final = "#c58a3c"
MISTAKE: Final = "#a8480f"

WIDE: Final = 896  # pixels; a page's column
TOP: Final = 12  # pixels above axes
BELOW: Final = 52  # pixels below axes, for ticks and the title
LONGEST: Final = 26  # columns of a name
LONGEST_NAME: Final = 200  # characters that are read, as some have no width
MADE_BY: Final = "fieldmarks: a chart of an evaluation"  # by which our files are recognised
Form = Literal["svg", "png", "pdf"]
ORIGIN: Final[dict[Form, dict[str, str | None]]] = {
    "svg": {"Creator": MADE_BY, "Date": None},
    "png": {"Software": MADE_BY},
    "pdf": {"Creator": MADE_BY, "CreationDate": None},
}
FALLBACKS: Final = (  # for PNG and PDF: systems' fonts for other scripts
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Nirmala UI",
)
FACES: Final = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif !important"
)
LOOK: Final[dict[str, Any]] = {
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 12,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x$"
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "fieldmarks",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its file name, its title, and what it shows in words."""

    name: str
    title: str
    words: str
    draw: "Callable[[], Figure]"

    def file(self, form: Form) -> bytes:
        """Return the chart as a file; PNG has two dots per pixel. Raises ReportError without matplotlib."""
        return rendered(self.draw, form)

    def svg(self) -> bytes:
        """Return the chart as SVG without a background, for a page that has its own. Raises like `file`."""
        return rendered(self.draw, "svg", ground="none")


def needed(module: str) -> Any:
    """Import a module of the `eval` extra. Raises ReportError if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ReportError(f"charts need {package}: {install('eval')}") from error


def figure(height: float) -> "Figure":
    """Return an empty figure as wide as a page, with a height in pixels."""
    empty: Figure = needed("matplotlib.figure").Figure(figsize=(WIDE / 72, height / 72))
    return empty


def axes(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Add axes to a figure, at a place in pixels from its upper left corner, and return them."""
    whole, high = figure.get_size_inches() * 72
    return figure.add_axes((left / whole, 1 - (top + height) / high, width / whole, height / high))


def heading(axes: "Axes", text: str, left: float = 0) -> None:
    """Write a line of text above axes, starting this many pixels to their left."""
    above, points = "axes fraction", "offset points"
    axes.annotate(text, (0, 1), (-left, 10), xycoords=above, textcoords=points, color=SOFT)


def rendered(draw: "Callable[[], Figure]", form: Form, ground: str = "#ffffff") -> bytes:
    """Return a chart as a file, the same bytes each time. Raises ReportError without matplotlib."""
    matplotlib = needed("matplotlib")
    file = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # not those of the user's matplotlibrc
        families = ["DejaVu Sans"] if form == "svg" else _families()
        matplotlib.rcParams.update(LOOK | {"font.family": families})
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        draw().savefig(file, format=form, dpi=144, facecolor=ground, metadata=ORIGIN[form])
    content = file.getvalue()
    if form != "svg":
        return content
    # The text was measured in DejaVu Sans, which is wider than a page's fonts.
    return content.replace(b"<defs>", f"<defs><style>text{{font-family:{FACES}}}</style>".encode(), 1)


def _families() -> list[str]:
    installed = set(needed("matplotlib.font_manager").fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]


def label(name: str, columns: int) -> str:
    """Return a name as shown in a chart: printable, valid in XML, cut to `columns`."""
    text = "".join(
        "\ufffd" if ord(letter) & 0xFFFE == 0xFFFE else letter for letter in printable(name[:LONGEST_NAME])
    )
    return cut(text, columns)


def gutter(labels: Sequence[str]) -> float:
    """Return how many pixels the longest label needs to the left of axes."""
    letters = needed("matplotlib.textpath").text_to_path
    font = needed("matplotlib.font_manager").FontProperties()
    return 14 + max(float(letters.get_text_width_height_descent(text, font, False)[0]) for text in labels)


def mixed(colour: str, shares: Any) -> Any:
    """Return RGB (…, 3) between white at 0 and a colour at 1."""
    import numpy as np

    full = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    part = np.clip(shares, 0, 1)[..., None]
    return 1 - part + part * full


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Set up a row for each name, the first on top, and a light grid for the values."""
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="x")
    axes.margins(x=0.06)


def interval(
    axes: "Axes", row: float, estimate: Estimate | Difference, colour: str, marker: str, *, hollow: bool
) -> None:
    """Draw an estimate in a row, as a marker on the line of its interval, both in percent."""
    size, line = (8, 2.0) if marker == "o" else (5, 1.0)
    axes.plot([100 * estimate.low, 100 * estimate.high], [row, row], color=colour, linewidth=line)
    fill = "#ffffff" if hollow else colour
    axes.plot([100 * estimate.value], [row], marker, color=colour, markerfacecolor=fill, markersize=size)


def signed_tick(value: float, _: float) -> str:
    """Return a difference as an axis shows it, with all its digits; nothing beyond 100."""
    if abs(value) > 100:
        return ""
    return f"{value:+g}".replace("-", MINUS) if value else "0"
