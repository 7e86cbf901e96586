"""How the tests read a page: its outline without a browser, its size, colours and controls with one.

`DevTools` speaks Chromium's DevTools protocol over a pair of pipes (--remote-debugging-pipe), so that a test
can ask a page in a theme and of a width what it shows, what its accessibility tree says, and press keys.
"""

import base64
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal, Self

from PIL import Image

VOID = {"meta", "img", "rect", "br", "link", "source", "input"}


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


class DevTools:
    """A page of a browser that runs, driven over DevTools' pipes; see `open_browser`."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Accessibility.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, wait for its answer and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def open(
        self, page: Path, width: int = 1280, theme: Literal["light", "dark"] = "light", scripts: bool = True
    ) -> Self:
        """Show a page in a window of a width, as a reader who prefers a theme sees it."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass
        return self

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page, or what a promise comes to."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as "Tab"."""
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **text)

    def screenshot(self, *, whole: bool = True, most: int = 8000) -> bytes:
        """Return a PNG of the page, at most so many pixels high."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], most), "scale": 1}
        given = {"clip": clip, "captureBeyondViewport": True} if whole else {}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **given)["data"])

    def width(self) -> int:
        """Return how wide what is shown is, in pixels: more than the window where it has to be scrolled."""
        width: int = self.evaluate("document.documentElement.scrollWidth")
        return width

    def colours(self) -> set[str]:
        """Return the colours of a screenshot of the page, "rrggbb"."""
        with Image.open(io.BytesIO(self.screenshot())) as shot:
            found = shot.convert("RGB").getcolors(shot.width * shot.height)
        assert found is not None
        return {bytes(colour).hex() for _, colour in found}  # type: ignore[arg-type]

    def pdf(self) -> bytes:
        """Return the page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def tab_stops(self, most: int = 500) -> list[str]:
        """Return the text or name of each element that the Tab key reaches, from the page's beginning."""
        stops: list[str] = []
        name = "(e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent)(document.activeElement)"
        self.evaluate("document.activeElement.blur(); window.reached = new Set([document.body])")
        for _ in range(most):
            self.press("Tab")
            # From the last element focus goes back to the page, or, as in some pages, to the first element.
            if self.evaluate("reached.size === reached.add(document.activeElement).size"):
                break
            stops.append(" ".join(self.evaluate(name).split()))
        return stops

    def accessible(self) -> list[tuple[str, str]]:
        """Return the role and the name of each node of the accessibility tree that is not ignored."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]


@contextmanager
def open_browser(program: str, folder: Path) -> Iterator[DevTools]:
    """Start a headless browser, with its profile in a folder, and end it afterwards."""
    command_out, command_in = os.pipe()
    answer_out, answer_in = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-background-networking"]
    # The browser reads commands from its descriptor 3 and answers on 4, whatever numbers ours have.
    script = 'exec "$0" "$@" 3<&"$COMMANDS" 4>&"$ANSWERS"'
    with subprocess.Popen(
        ["bash", "-c", script, program, *options],
        pass_fds=(command_out, answer_in),
        env={**os.environ, "COMMANDS": str(command_out), "ANSWERS": str(answer_in)},
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(command_out)
        os.close(answer_in)
        try:
            yield DevTools(command_in, answer_out)
        finally:
            os.close(command_in)  # which ends the browser
            process.terminate()
            process.wait(timeout=20)
            os.close(answer_out)


TEXTS = """[...new Set((() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  const clear = /^(transparent|rgba\\(.*, 0\\))$/;
  while (walker.nextNode()) {
    let element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script")) continue;
    const colour = getComputedStyle(element).color;
    while (element && clear.test(getComputedStyle(element).backgroundColor)) element = element.parentElement;
    found.push(`${colour} on ${element ? getComputedStyle(element).backgroundColor : "no ground"}`);
  }
  return found;
})())]"""  # the colours of all visible text, each with those of the first ground below it


def text_contrasts(page: DevTools) -> dict[str, float]:
    """Return the contrast of each pair of colours in which a page sets text, by the pair."""
    pairs: list[str] = page.evaluate(TEXTS)
    return {pair: contrast(*(_hex(colour) for colour in pair.split(" on "))) for pair in pairs}


def _hex(colour: str) -> str:
    parts = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert parts, f"not an opaque colour: {colour}"
    return "#" + "".join(f"{int(part):02x}" for part in parts.groups())


def contrast(colour: str, ground: str) -> float:
    """Return the contrast of two colours, "#rrggbb", as WCAG defines it."""
    darker, lighter = sorted((_luminance(colour), _luminance(ground)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
