"""Results that the tests of the report share."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.report.browser import Browser, DevTools, open_browser
from tests.report.evaluations import evaluation

from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction, Score
from fieldmarks.evaluation.results import Evaluation

HOSTILE = "<script>alert(1)</script>\u202e\"'&\x1b[31m"


def _thumbnail() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 32), "seagreen").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def prediction() -> Prediction:
    """A picture of a tree frog that its name alone calls an owl."""
    frog = (Mark("tree frog", "protruding eyes", 25.5), Mark("tree frog", "a wide mouth", 23.0))
    owl = (Mark("owl", "big eyes", 24.1), Mark("owl", "a hooked beak", -3.25))
    return Prediction(
        "photos/one.png",
        "tree frog",
        (Score("tree frog", 0.9, 24.2), Score("owl", 0.1, 22.0)),
        Score("owl", 0.6, 21.5),
        Explanation(frog, owl, (frog[0], owl[0])),
        _thumbnail(),
    )


@pytest.fixture
def hostile() -> Prediction:
    """A prediction in which every text is a stranger's."""
    mark = Mark(HOSTILE, HOSTILE, 1.0)
    score = Score(HOSTILE, 1.0, 1.0)
    return Prediction(
        f"{HOSTILE}/{HOSTILE}", HOSTILE, (score,), score, Explanation((mark,), (mark,), (mark, mark))
    )


@pytest.fixture
def failure() -> Failure:
    """A picture that could not be read."""
    return Failure(HOSTILE, HOSTILE)


@pytest.fixture(scope="session")
def few() -> Evaluation:
    """An evaluation of ten classes."""
    return evaluation()


@pytest.fixture(scope="session")
def browser_program() -> str:
    """Chromium, in whatever name it is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here: install it to test the report in a browser")
    return program


@pytest.fixture(scope="session")
def devtools(browser_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTools]:
    """One browser for the whole session, whose page a test opens in a width and a theme."""
    with open_browser(browser_program, tmp_path_factory.mktemp("devtools")) as page:
        yield page


@pytest.fixture(scope="session")
def chromium(browser_program: str, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Runs headless Chromium with more options on a page, and returns what it prints."""
    quiet = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ]
    quiet += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]

    def run(path: Path, *options: str) -> str:
        folder = tmp_path_factory.mktemp("browser")
        command = [browser_program, *quiet, f"--user-data-dir={folder}", *options, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return run
