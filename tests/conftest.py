"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]

# Nothing here may reach a hub: what a test needs ships with the product or lies in the check data.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def check_data() -> Path:
    """The folder of real data that stays outside the repository; its tests are skipped where it is absent."""
    folder = Path(os.environ.get("FIELDMARKS_CHECK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no check data at {folder}: set FIELDMARKS_CHECK_DATA")
    return folder


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache folder out of the tests, and the tests out of it."""
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path_factory.mktemp("user-cache")))


@pytest.fixture
def runner() -> CliRunner:
    """click's runner; its results keep stdout and stderr apart."""
    return CliRunner()


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    """The shipped CLIP model's folder."""
    return ROOT / "pipeline/fieldmarks/demo/models/clip"


@pytest.fixture(scope="session")
def demo_lm() -> Path:
    """The shipped language model's folder."""
    return ROOT / "pipeline/fieldmarks/demo/models/lm"
