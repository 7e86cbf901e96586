"""Charts as files: each in three forms, replaced by those of another run, and nothing else replaced."""

from pathlib import Path

import pytest
from PIL import Image
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.errors import ReportError
from fieldmarks.evaluation.results import Evaluation
from fieldmarks.report import chart_files
from fieldmarks.report.charts import charts

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def small() -> Evaluation:
    """Three classes and few images, quickly drawn."""
    return evaluation(BIRDS[:3], 60, seeds=2)


@pytest.mark.slow
def test_plots_as_files(small: Evaluation, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "plots"
    paths = chart_files.save(charts(small), folder)
    names = [
        f"{name}.{form}"
        for name in ("arms", "gains", "confusion", "classes")
        for form in ("svg", "png", "pdf")
    ]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    with Image.open(folder / "arms.png") as image:
        assert image.width == 2 * 896
    (folder / "arms.svg").touch()
    before = {path: path.read_bytes() for path in paths}
    assert chart_files.save(charts(small), folder) == paths  # an earlier run's are replaced
    assert {path: path.read_bytes() for path in paths} == before


def test_plots_replace_nothing_of_others(small: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "gains.png").write_bytes(b"a holiday")
    with pytest.raises(
        ReportError, match=r"gains\.png already exists and is not a fieldmarks chart; choose another name"
    ):
        chart_files.save(charts(small), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["gains.png"]
    with pytest.raises(ReportError, match=r"gains\.png already exists and is not a folder"):
        chart_files.save(charts(small), tmp_path / "gains.png")
