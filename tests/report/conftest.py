"""Results that the tests of the report share."""

import io
import shutil
from collections.abc import Iterator

import pytest
from PIL import Image
from tests.report.browser import DevTools, open_browser
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
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTools]:
    """One browser for the whole session, whose page a test opens in a width and a theme."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here: install it to test the report in a browser")
    with open_browser(program, tmp_path_factory.mktemp("devtools")) as page:
        yield page
