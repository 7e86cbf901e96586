"""What a project sets for lint is read strictly: a slip is an error, not silence."""

from pathlib import Path

import pytest

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.lint import codes, lint, project_config, read_examples
from fieldmarks.store.lint_rules import Config, Severity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pyproject.toml"


def test_every_setting(file: Path) -> None:
    file.write_text(
        '[tool.fieldmarks.lint]\nignore = ["FM105", "twice"]\nmax-words = 2\nshared-by = 3\nhurts-by = 4\n'
        'examples = "few.txt"\nseverity = { hedge = "hint" }\n'
    )
    file.with_name("few.txt").write_text("-  long tail \r\n - x\n-\nQ: -no\n")
    assert project_config(file) == Config(
        frozenset({"FM105", "FM103"}), {"FM302": Severity.HINT}, 2, 3, 4, frozenset({"long tail", "x"})
    )
    entries = [Entry("a", ("long tail", "may be so red"))]
    findings = [(finding.rule.code, finding.severity.name) for finding in lint(entries, project_config(file))]
    assert findings == [("FM201", "ERROR"), ("FM302", "HINT"), ("FM305", "WARNING")]


def test_a_project_without_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert project_config() == Config()
    file.write_text("[project]\nname = 'x'\n")
    assert project_config() == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "is not TOML"),
        ("tool = 1", "'tool' should be a table"),
        (
            "[tool.fieldmarks.lint]\nignores = []",
            "unknown key 'ignores' in tool.fieldmarks.lint: expected ignore, max-words",
        ),
        ('[tool.fieldmarks.lint]\nignore = "FM105"', "ignore should be a list"),
        ("[tool.fieldmarks.lint]\nmax-words = true", "max-words should be a int"),
        (
            '[tool.fieldmarks.lint]\nignore = ["FM999"]',
            "unknown rule 'FM999': `fieldmarks store lint --rules`",
        ),
        (
            '[tool.fieldmarks.lint]\nseverity = { hedge = "bad" }',
            "severity is one of hint, warning, error, not 'bad'",
        ),
    ],
)
def test_a_slip_is_told(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(StoreError, match=message):
        project_config(file)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.toml cannot be read"):
        project_config(tmp_path / "none.toml")
    with pytest.raises(StoreError, match=r"none\.txt cannot be read"):
        read_examples(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("-\n")
    with pytest.raises(StoreError, match=r"empty\.txt has no worked example"):
        read_examples(tmp_path / "empty.txt")
    with pytest.raises(StoreError, match="--ignore: unknown rule 5"):
        codes([5], "--ignore")
