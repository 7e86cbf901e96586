"""`fieldmarks cache`: what is kept, and dropping it."""

from pathlib import Path

from click.testing import CliRunner

from fieldmarks.classification import Classifier
from fieldmarks.classification.run import Model
from fieldmarks.cli import main
from fieldmarks.paths import user_cache


def test_info_and_clear(runner: CliRunner, tiny_clip: Path) -> None:
    path = user_cache() / "embeddings.sqlite3"
    empty = f"{path}\n0 embeddings, 0.0 MB of 2147.5 MB\n"
    assert runner.invoke(main, ["cache", "info"]).stdout == empty
    Classifier.from_names(["owl", "newt"], clip=Model(clip=str(tiny_clip), device="cpu").embedder())
    assert runner.invoke(main, ["cache", "info"]).stdout.splitlines()[1].startswith("3 embeddings, 0.")
    assert runner.invoke(main, ["cache", "clear"]).exit_code == 0
    assert runner.invoke(main, ["cache", "info"]).stdout == empty
