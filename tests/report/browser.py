"""How the tests read a page: its outline without a browser, its size and colours with one."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "rect", "br", "link", "source"}
Browser = Callable[..., str]  # runs a browser on a page with more options, and returns what it prints


class Outline(HTMLParser):
    """Checks that elements nest, and gathers them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data} "


def document_width(chromium: Browser, page: Path, width: int) -> int:
    """Return how wide a page becomes in a frame of a width, in pixels.

    A probe beside a copy of the page without its policy asks the frame.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    page.with_name("inner.html").write_text(text, "utf-8")
    probe = page.with_name("probe.html")
    probe.write_text(
        f'<iframe id="f" src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
        '<p id="out"></p><script>f.onload = () => {'
        " out.textContent = f.contentDocument.documentElement.scrollWidth; }</script>"
    )
    probing = ("--allow-file-access-from-files", "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r'<p id="out">(\d+)</p>', chromium(probe, *probing))
    assert found
    return int(found[1])


def contrast(light: str, dark: str) -> float:
    """Return the contrast of two colours, "#rrggbb", as WCAG defines it."""
    return (_luminance(light) + 0.05) / (_luminance(dark) + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
