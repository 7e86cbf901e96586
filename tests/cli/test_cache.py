"""`fieldmarks cache`: what is kept, and dropping it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from fieldmarks.classification import Classifier
from fieldmarks.classification.run import Model
from fieldmarks.cli import main
from fieldmarks.paths import user_cache


def test_info_and_clear(
    runner: CliRunner, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path))  # not the converted models of the other tests
    kept, models = user_cache() / "embeddings.sqlite3", user_cache() / "engines"
    empty = [
        str(kept),
        "0 embeddings, 0.0 MB of 2147.5 MB",
        str(models),
        "0 converted models, 0.0 MB of 8589.9 MB",
    ]
    assert runner.invoke(main, ["cache", "info"]).stdout.splitlines() == empty
    clip = Model(clip=str(tiny_clip), device="cpu", engine="openvino").embedder()
    Classifier.from_names(["owl", "newt"], clip=clip)
    shown = runner.invoke(main, ["cache", "info"]).stdout.splitlines()
    assert shown[1].startswith("3 embeddings, 0.")
    assert shown[3].startswith("1 converted models, ")
    assert not shown[3].startswith("1 converted models, 0.0 MB")
    assert runner.invoke(main, ["cache", "clear"]).exit_code == 0
    assert runner.invoke(main, ["cache", "info"]).stdout.splitlines() == empty
    assert list(models.glob("*")) == []
