"""The page in a browser: an image is dropped on it and its marks appear, and nothing else is asked for."""

from pathlib import Path

import pytest
from PIL import Image
from tests.serve.chromium import BROWSER, browser
from tests.serve.served import Served, serving

BARS = """[...document.querySelectorAll('.marks tr')].map((row) => [
    row.lastChild.textContent.startsWith('\\u2212'),
    +row.querySelector('rect').getAttribute('x'),
    +row.querySelector('path').getAttribute('d').slice(1).split(' ')[0],
])"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no browser is installed")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_an_image_is_dropped_and_its_marks_are_seen(
    served: Served, zoo: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    own = f"http://127.0.0.1:{served.port}/"
    hostile = tmp_path / "<img src=x onerror=alert(1)>.png"
    hostile.write_bytes((zoo / "zorblat-0.png").read_bytes())
    with browser(tmp_path / "profile") as page:
        page.show(own, width, scheme)
        page.wait("document.getElementById('about')?.textContent.startsWith('One of 12 classes: ')")
        page.drop(hostile, width // 2, 220)
        page.wait("document.querySelectorAll('.marks tr').length >= 16")
        assert page.value("document.querySelector('.card h2').textContent") == "zorblat"
        bars = page.value(BARS)
        assert {sign for sign, _, _ in bars} == {True, False}
        assert all((start < zero) == is_negative for is_negative, start, zero in bars)
        assert page.value("document.querySelector('.decided').textContent").startswith("Deciding pair")
        assert page.value("document.querySelector('.name').textContent") == hostile.name
        assert page.value("document.querySelectorAll('.card img').length") == 1
        assert page.value("document.querySelector('.card img').naturalWidth") > 0
        assert page.value("document.documentElement.scrollWidth") <= width
        dark = page.value("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 21)"
        assert dark == (scheme == "dark")
        page.screenshot(tmp_path / "page.png")
        asked = [
            event["params"]["request"]["url"]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        errors = [
            event
            for event in page.events
            if event.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
            or (event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
        ]
    assert len(asked) >= 5
    assert [address for address in asked if not address.startswith((own, f"blob:{own[:-1]}", "about:"))] == []
    assert errors == []


def test_a_calibrated_classifier_says_why_there_is_no_label(
    calibrated: Path, zoo: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.png"
    Image.effect_noise((96, 96), 90).convert("RGB").save(plain)
    with (
        serving(
            "--classifier", str(calibrated), "--abstain", "--sets", "--engine", "torch", "--no-cache"
        ) as served,
        browser(tmp_path / "profile") as page,
    ):
        page.show(f"http://127.0.0.1:{served.port}/", 768, "light")
        page.wait("document.getElementById('about')?.textContent.startsWith('One of 12 classes: ')")
        for count, (image, heading) in enumerate(
            ((zoo / "vontle-0.png", "vontle"), (plain, "(none of these)")), 1
        ):
            page.drop(image, 384, 220)
            page.wait(f"document.querySelectorAll('.card .marks').length === {count}")
            assert page.value("document.querySelector('.card h2').textContent") == heading
            assert " ×" in page.value("document.querySelector('.marks td.n').textContent")
            shown = page.value("document.querySelector('.card').innerText")
            assert ("Would be one of: " if image == plain else "One of: vontle") in shown
        assert " under " in shown
        page.screenshot(tmp_path / "page.png")
