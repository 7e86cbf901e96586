"""`store lint`: exit codes and outputs are a contract."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from tests.kit import write_store

from fieldmarks.cli import main
from fieldmarks.records import Entry
from fieldmarks.store import Store


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("a,b.jsonl").write_text(
        '\n{"class": "frog", "descriptors": ["may croak", "wide  mouth", "Wide mouth"]}\n'
    )
    return "a,b.jsonl"


def _lint(runner: CliRunner, *arguments: str) -> Result:
    return runner.invoke(main, ["store", "lint", *arguments])


def test_exit_codes(runner: CliRunner, file: str) -> None:
    assert _lint(runner, file).exit_code == 1
    assert _lint(runner, file, "--ignore", "debris").exit_code == 0
    assert _lint(runner, file, "--ignore", "debris", "--strict").exit_code == 1
    assert (
        _lint(
            runner, file, "--ignore", "debris", "--ignore", "FM302", "--ignore", "FM103", "--strict"
        ).exit_code
        == 0
    )
    assert _lint(runner, "imagenette", "--strict").exit_code == 0
    assert _lint(runner).exit_code == 2
    assert _lint(runner, file, "--ignore", "nonsense").stderr.startswith(
        "Error: --ignore: unknown rule 'nonsense'"
    )


def test_outputs(runner: CliRunner, file: str) -> None:
    result = _lint(runner, file)
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "severity  rule          what                                   class",
        "error     FM204 debris  wide  mouth: should read 'wide mouth'  frog #2",
        "warning   FM103 twice   Wide mouth: it repeats number 2        frog #3",
        "warning   FM302 hedge   may croak: it says 'may'               frog #1",
    ]
    assert result.stderr == "3 findings: FM103 twice: 1, FM204 debris: 1, FM302 hedge: 1.\n"
    findings = [orjson.loads(line) for line in _lint(runner, file, "--json").stdout.splitlines()]
    assert findings[2] == {
        "code": "FM302",
        "rule": "hedge",
        "severity": "warning",
        "class": "frog",
        "number": 1,
        "descriptor": "may croak",
        "message": "it says 'may'",
    }
    where = "file=a%2Cb.jsonl,line=2"
    assert _lint(runner, file, "--github").stdout.splitlines() == [
        f"::warning {where},title=FM103 twice::frog, 'Wide mouth': it repeats number 2",
        f"::error {where},title=FM204 debris::frog, 'wide  mouth': should read 'wide mouth'",
        f"::warning {where},title=FM302 hedge::frog, 'may croak': it says 'may'",
    ]


def test_what_repeats_over_classes_is_one_row(runner: CliRunner, file: str) -> None:
    names = [f"a dog of the breed number {number} of many" for number in range(30)]
    write_store(Path("dogs.jsonl"), {name: ["may bark", f"coat {name[-10]}"] for name in names})
    result = _lint(runner, "dogs.jsonl", "--ignore", "same-list", "--ignore", "own-name")
    heading, *rows = [line.split("  ") for line in result.stdout.splitlines()]
    assert heading[0] == "severity"
    classes = f"30 classes: {', '.join(f'{name} #1' for name in names)}"
    assert [(row[0], row[1], row[-1]) for row in rows if "may bark" in "".join(row)] == [
        ("warning", " FM105 shared", classes),
        ("warning", " FM302 hedge", classes),
    ]


@pytest.mark.parametrize(
    ("severity", "codes"), [("error", [1, 1, 1]), ("warning", [0, 1, 1]), ("hint", [0, 0, 1])]
)
def test_fail_on(runner: CliRunner, file: str, severity: str, codes: list[int]) -> None:
    Path("severity.toml").write_text(f'[tool.fieldmarks.lint.severity]\nhedge = "{severity}"\n')
    write_store(Path("one.jsonl"), {"frog": ["may croak"]})
    for least, code in zip(("error", "warning", "hint"), codes, strict=True):
        result = _lint(runner, "one.jsonl", "--config", "severity.toml", "--fail-on", least)
        assert result.exit_code == code
    assert _lint(runner, "one.jsonl", "--config", "severity.toml", "--strict").exit_code == codes[1]
    assert _lint(runner, "one.jsonl", "--strict", "--fail-on", "hint").exit_code == 2


def test_fix_shows_and_mends_what_is_safe(runner: CliRunner, file: str) -> None:
    before = Path(file).read_bytes()
    result = _lint(runner, file, "--fix", "--dry-run")
    assert result.stdout.startswith("frog\n- wide  mouth\n- Wide mouth\n+ wide mouth\n")
    assert Path(file).read_bytes() == before
    result = _lint(runner, file, "--fix")
    assert result.exit_code == 0, "only the warning about the hedge is left"
    entry = Store(file).get("frog")
    assert entry is not None
    assert (entry.descriptors, entry.note) == (("may croak", "wide mouth"), "lint --fix")
    assert _lint(runner, file, "--fix").stderr.startswith("Nothing to change.\n")
    assert runner.invoke(main, ["store", "undo", file]).exit_code == 0
    assert Store(file).get("frog") is not None
    json = _lint(runner, file, "--fix", "--json")
    assert [orjson.loads(line)["code"] for line in json.stdout.splitlines()] == ["FM302"]


def test_a_projects_settings(runner: CliRunner, file: str) -> None:
    Path("pyproject.toml").write_text('[tool.fieldmarks.lint]\nignore = ["debris", "twice", "hedge"]\n')
    assert (_lint(runner, file).stdout, _lint(runner, file).stderr) == ("", "No findings.\n")
    Path("few.txt").write_text("- may croak\n")
    assert [
        orjson.loads(line)["code"]
        for line in _lint(runner, file, "--examples", "few.txt", "--json").stdout.splitlines()
    ] == ["FM201"]
    Path("other.toml").write_text(
        '[tool.fieldmarks.lint]\nseverity = { hedge = "error" }\nignore = ["debris", "twice"]\n'
    )
    assert _lint(runner, file, "--config", "other.toml").exit_code == 1


def test_rules(runner: CliRunner) -> None:
    assert _lint(runner, "--rules").stdout.splitlines()[1].split()[:4] == [
        "FM101",
        "empty-list",
        "error",
        "A",
    ]
    rules = [orjson.loads(line) for line in _lint(runner, "--rules", "--json").stdout.splitlines()]
    assert len(rules) > 15
    assert rules[0] == {
        "code": "FM101",
        "rule": "empty-list",
        "severity": "error",
        "doc": "A class has no descriptors.",
    }


def test_tokens_of_a_real_model(runner: CliRunner, file: str, check_data: Path) -> None:
    Store("long.jsonl", create=True).append(Entry("x", ("red " * 75, "red " * 76)))
    result = _lint(
        runner, "long.jsonl", "--clip", str(check_data / "clip-tokenizer"), "--json", "--ignore", "long"
    )
    findings = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert [
        (finding["number"], finding["message"]) for finding in findings if finding["code"] == "FM306"
    ] == [(2, "it has 78 tokens: the model reads 77 at most")]
    result = _lint(runner, "long.jsonl", "--clip", ".")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: .: tokenizer.json cannot be read: ")
