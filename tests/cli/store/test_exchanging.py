"""`store import`, `export`, `copy`, `diff`, `merge`, `compact` from the command line."""

import csv
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from tests.kit import on_a_terminal

from fieldmarks.cli import main
from fieldmarks.records import Entry
from fieldmarks.store import Store

pytestmark = pytest.mark.usefixtures("own_folder")


def _store(runner: CliRunner, *arguments: str) -> Result:
    return runner.invoke(main, ["store", *arguments])


@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.tsv", "x"])
def test_there_and_back(runner: CliRunner, name: str) -> None:
    assert _store(runner, "export", "cifar10", name).exit_code == 0
    result = _store(runner, "import", "mine.jsonl", name)
    assert result.exit_code == 0
    *understood, last = result.stderr.splitlines()
    assert last == "Imported 10 classes; 0 unchanged. `fieldmarks store undo mine.jsonl` reverts it."
    assert [line.partition(": ")[2][:26] for line in understood] == ["10 classes, 65 descriptors"] * (
        name != "x"
    )
    result = _store(runner, "diff", "cifar10", "mine.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert _store(runner, "export", "cifar10", name).exit_code == 1
    assert _store(runner, "export", "cifar10", name, "--force").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet", "dtd", "eurosat"])
def test_the_papers_files(runner: CliRunner, check_data: Path, name: str) -> None:
    original = check_data / "descriptors" / f"descriptors_{name}.json"
    assert _store(runner, "import", "mine.jsonl", str(original)).exit_code == 0
    assert _store(runner, "export", "mine.jsonl", "back.json").exit_code == 0
    assert Path("back.json").read_bytes() == original.read_bytes()
    assert _store(runner, "undo", "mine.jsonl", "--yes").exit_code == 0
    assert Store("mine.jsonl").names() == []


def test_export_prints(runner: CliRunner) -> None:
    assert list(orjson.loads(_store(runner, "export", "frogs", "-").stdout)) == ["tree frog", "bullfrog"]
    assert _store(runner, "export", "frogs", "-", "--format", "folder").exit_code == 2


def test_a_folder_has_a_card(runner: CliRunner) -> None:
    assert _store(runner, "export", "frogs", "hub", "--license", "mit").exit_code == 0
    assert sorted(path.name for path in Path("hub").iterdir()) == ["README.md", "descriptors.jsonl"]
    assert 'license: "mit"' in Path("hub/README.md").read_text()


def test_import_over_other_lists(runner: CliRunner) -> None:
    Path("x.csv").write_text("frog,a\n")
    Path("y.csv").write_text("frog,b\nnewt,c\n")
    _store(runner, "import", "mine.jsonl", "x.csv")
    result = _store(runner, "import", "mine.jsonl", "y.csv")
    assert (result.exit_code, result.stderr) == (
        1,
        "y.csv: 2 classes, 2 descriptors from columns 1 and 2, no heading: class, then descriptor,"
        " separated by ','\n"
        "Error: mine.jsonl has other descriptors for 'frog': pass --replace to make the new ones current\n",
    )
    result = _store(runner, "import", "mine.jsonl", "y.csv", "--replace", "--dry-run")
    assert result.stdout == "frog\n- a\n+ b\nnewt (added)\n+ c\n"
    assert Store("mine.jsonl").names() == ["frog"]
    assert _store(runner, "import", "mine.jsonl", "y.csv", "--replace").exit_code == 0
    assert [entry.descriptors for entry in Store("mine.jsonl").entries()] == [("b",), ("c",)]


def test_classes_that_a_replacing_import_lacks_are_named_and_stay(runner: CliRunner) -> None:
    Path("x.csv").write_text("class,descriptor\nfrog,a\nnewt,b\ntoad,c\n")
    Path("y.csv").write_text("class,descriptor\nnewt,b\n")
    _store(runner, "import", "mine.jsonl", "x.csv")
    result = _store(runner, "import", "mine.jsonl", "y.csv", "--replace")
    assert result.stderr.splitlines()[1:] == [
        "Not in y.csv, and left as they are: 'frog', 'toad';"
        " `fieldmarks store drop mine.jsonl CLASS --all` removes one",
        "Imported 0 classes; 1 unchanged.",
    ]
    assert Store("mine.jsonl").names() == ["frog", "newt", "toad"]


def test_a_workbook_is_not_written(runner: CliRunner) -> None:
    result = _store(runner, "export", "cifar10", "x.xlsx")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: x.xlsx: workbooks are not written: export to a .csv, which Excel and others open\n",
    )


def test_copy_and_salvage(runner: CliRunner) -> None:
    assert _store(runner, "copy", "frogs", "mine.jsonl").exit_code == 0
    result = _store(runner, "copy", "frogs", "mine.jsonl")
    assert result.stderr == "Error: mine.jsonl already exists: choose another name\n"
    with Path("mine.jsonl").open("ab") as file:
        file.write(b"broken\n")
    result = _store(runner, "list", "mine.jsonl")
    assert result.stderr.startswith("Error: mine.jsonl, line 3: not JSON: ")
    assert "fix the line, or `fieldmarks store copy mine.jsonl NEW --salvage`" in result.stderr
    result = _store(runner, "copy", "mine.jsonl", "whole.jsonl", "--salvage")
    assert (result.exit_code, result.stderr) == (
        0,
        "mine.jsonl, line 3: left out\nCopied 2 intact lines to whole.jsonl; left out 1.\n",
    )
    assert Store("whole.jsonl").names() == ["tree frog", "bullfrog"]


def test_diff(runner: CliRunner) -> None:
    _store(runner, "copy", "frogs", "mine.jsonl")
    _store(runner, "drop", "mine.jsonl", "bullfrog", "1")
    dropped = "a big, heavy, olive or brown body"
    assert _store(runner, "diff", "frogs", "mine.jsonl").stdout == f"bullfrog\n- {dropped}\n"
    assert orjson.loads(_store(runner, "diff", "mine.jsonl", "frogs", "--json").stdout) == {
        "class": "bullfrog",
        "status": "changed",
        "added": [dropped],
        "dropped": [],
        "moved": [],
    }


def test_merge_and_compact(runner: CliRunner) -> None:
    Store("a.jsonl", create=True).append(Entry("frog", ("old",)), Entry("frog", ("a",)))
    Store("b.jsonl", create=True).append(Entry("frog", ("b",)), Entry("newt", ("c",)))
    result = _store(runner, "merge", "out.jsonl", "a.jsonl", "b.jsonl", "--prefer", "union")
    assert (result.exit_code, result.stdout) == (0, "frog\n")
    assert result.stderr == "1 class differed, decided by --prefer union. Wrote out.jsonl.\n"
    merged = Store("out.jsonl")
    assert [entry.descriptors for entry in merged.entries()] == [("a", "b"), ("c",)]
    result = _store(runner, "compact", "out.jsonl", "--dry-run")
    gone = "for good: undo goes no further back than this"
    assert result.stderr == f"2 of 5 lines would stay. 3 earlier lines would be removed {gone}.\n"
    assert _store(runner, "compact", "out.jsonl", "--keep-history").stderr == "5 of 5 lines stay.\n"
    before = Path("out.jsonl").read_bytes()
    result = _store(runner, "compact", "out.jsonl")
    assert (result.exit_code, Path("out.jsonl").read_bytes()) == (2, before)
    asked = f"would remove 3 earlier lines of out.jsonl {gone}"
    assert result.stderr == f"Error: this {asked}; pass --yes to go ahead\n"
    assert on_a_terminal(["store", "compact", "out.jsonl"], b"n\n")[0] == 1
    assert Path("out.jsonl").read_bytes() == before
    code, shown = on_a_terminal(["store", "compact", "out.jsonl"], b"y\n")
    assert (code, shown.splitlines()[0]) == (0, f"This {asked}.")
    assert shown.endswith(f"2 of 5 lines stay. 3 earlier lines removed {gone}.\n")
    assert _store(runner, "compact", "out.jsonl").stderr == "2 of 2 lines stay.\n"
    assert [entry.descriptors for entry in Store("out.jsonl").entries()] == [("a", "b"), ("c",)]
    assert _store(runner, "compact", "frogs").exit_code == 1


def test_back_from_a_spreadsheet(runner: CliRunner) -> None:
    """A spreadsheet reads the export and writes semicolons, UTF-16, CRLF and no quotes that it can spare."""
    Path("odd.json").write_text(
        '{"tree frog": ["grey, mottled skin", "=1+1", "a; b", "\\"warts\\"", "line\\nbreak"], "#1": ["-x"],'
        ' "@home": [], "Blässhuhn": ["ça"]}',
        "utf-8",
    )
    assert _store(runner, "import", "mine.jsonl", "odd.json").exit_code == 0
    assert _store(runner, "export", "mine.jsonl", "out.csv").exit_code == 0
    with Path("out.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    with Path("back.csv").open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows([*row, ""] if len(row) < 2 else row for row in rows)
    result = _store(runner, "import", "back.jsonl", "back.csv")
    assert result.stderr == (
        "back.csv: 4 classes, 7 descriptors from columns 'class' and 'descriptor', separated by ';', UTF-16\n"
        "Imported 4 classes; 0 unchanged. `fieldmarks store undo back.jsonl` reverts it.\n"
    )
    assert _store(runner, "diff", "mine.jsonl", "back.jsonl").stdout == ""


def test_columns_that_the_user_names(runner: CliRunner) -> None:
    Path("x.csv").write_text("Bird;Seen;Remark\nowl;3;big eyes\nowl;4;a beak\n")
    result = _store(runner, "import", "mine.jsonl", "x.csv")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: x.csv: it is not clear which columns hold the class and its descriptors: column 'Bird' (owl,"
        " owl), column 'Seen' (3, 4), column 'Remark' (big eyes, a beak): pass --columns CLASS,DESCRIPTOR"
        " as headings or numbers, or write the heading class,descriptor\n"
    )
    assert not Path("mine.jsonl").exists() or Store("mine.jsonl").names() == []
    result = _store(runner, "import", "mine.jsonl", "x.csv", "--columns", "bird,Remark")
    assert result.exit_code == 0
    assert [entry.descriptors for entry in Store("mine.jsonl").entries()] == [("big eyes", "a beak")]
    assert _store(runner, "import", "mine.jsonl", "x.csv", "--columns", "bird").exit_code == 2
    assert _store(runner, "import", "mine.jsonl", "x.csv", "--columns", "bird,1").exit_code == 1


def test_a_list_to_compare_with_may_be_a_table(runner: CliRunner) -> None:
    Path("x.csv").write_text("Nr;Klasse\n1;bullfrog\n2;newt\n")
    result = _store(runner, "list", "frogs", "--missing", "x.csv")
    assert (result.stdout, result.stderr) == (
        "newt\n",
        "x.csv: 2 classes from column 'Klasse', separated by ';'\n1 class of x.csv not in frogs.\n",
    )


def test_review_in_a_spreadsheet(runner: CliRunner) -> None:
    """A sheet with semicolons in UTF-16, as some programs save it: edited, marked, imported, undone."""
    assert _store(runner, "copy", "cifar10", "mine.jsonl").exit_code == 0
    assert _store(runner, "review", "mine.jsonl", "cat", "dog", "--by", "ada").exit_code == 0
    assert _store(runner, "export", "mine.jsonl", "out.csv").exit_code == 0
    heading, *rows = csv.reader(Path("out.csv").read_text("utf-8-sig").splitlines())
    assert heading == ["class", "descriptor", "review"]
    assert {row[0] for row in rows if row[2]} == {"cat", "dog"}
    rows.remove(next(row for row in rows if row[0] == "dog"))
    next(row for row in rows if row[0] == "ship")[2] = "Unsure"
    with Path("in.csv").open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows([heading, *rows])
    result = _store(runner, "import", "mine.jsonl", "in.csv", "--replace", "--by", "bo")
    assert result.exit_code == 0
    read, note, last = result.stderr.splitlines()
    assert read.endswith(", 3 review marks from columns 'class' and 'descriptor', separated by ';', UTF-16")
    assert note == (
        "Lists changed since they were marked, and so without a review mark: dog;"
        " `fieldmarks store review mine.jsonl CLASS` marks one again"
    )
    assert last == "Imported 2 classes; 8 unchanged. `fieldmarks store undo mine.jsonl` reverts it."
    marks = {entry.name: entry.review for entry in Store("mine.jsonl").entries() if entry.review}
    assert marks == {"cat": "approved", "ship": "unsure"}
    assert _store(runner, "undo", "mine.jsonl").exit_code == 0
    marks = {entry.name: entry.review for entry in Store("mine.jsonl").entries() if entry.review}
    assert marks == {"cat": "approved", "dog": "approved"}


def test_classes_that_differ_only_in_case_are_named(runner: CliRunner) -> None:
    Path("birds.csv").write_text("class,descriptor\nWren,small\nwren,brown\nowl,large\n")
    result = _store(runner, "import", "birds.jsonl", "birds.csv")
    assert result.exit_code == 0
    assert "\nWarning: classes that differ only in case: 'Wren' and 'wren'\n" in result.stderr
