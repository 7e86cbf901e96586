"""`store list`, `show`, `history`, `stats`: exact for programs, safe and of 80 columns for people."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from fieldmarks.cli import main
from fieldmarks.cli.render.stores import table_rows
from fieldmarks.records import GENERATED, Entry
from fieldmarks.store import Store
from fieldmarks.store.descriptor_effects import DescriptorEffect, write_effects
from fieldmarks.store.edits import Stamp

HOSTILE = "\x1b]0;owned\x07red"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Store("store.jsonl", create=True).append(
        Entry(
            "frog",
            ("wide mouth", "may be green"),
            origin=GENERATED,
            model="m",
            answer="- wide mouth\n- may be green",
        ),
        Entry("newt", (HOSTILE, "[bold]x[/bold]")),
    )
    return "store.jsonl"


def test_chinese_and_german_are_shown_in_columns(runner: CliRunner, own_folder: Path) -> None:
    """A Chinese letter takes two columns of a terminal."""
    Store("store.jsonl", create=True).append(
        Entry("树蛙", ("突出的眼睛", "带有吸盘的圆形脚趾")), Entry("Laubfrosch", ("große Haftscheiben",))
    )
    assert runner.invoke(main, ["store", "list", "store.jsonl"]).stdout.splitlines() == [
        "class       descriptors  origin  flags",
        "树蛙                  2  typed",
        "Laubfrosch            1  typed",
    ]
    shown = runner.invoke(main, ["store", "show", "store.jsonl", "树蛙"])
    assert shown.exit_code == 0
    assert "突出的眼睛" in shown.stdout
    found = runner.invoke(main, ["store", "list", "store.jsonl", "--grep", "吸盘"])
    assert [line.split()[0] for line in found.stdout.splitlines()[1:]] == ["树蛙"]
    exported = runner.invoke(main, ["store", "show", "store.jsonl", "树蛙", "--json"])
    assert "带有吸盘的圆形脚趾" in exported.stdout
    assert runner.invoke(main, ["store", "lint", "store.jsonl"]).exit_code == 0


def _json(text: str) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in text.splitlines()]


def test_list(runner: CliRunner, file: str) -> None:
    result = runner.invoke(main, ["store", "list", file])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "class  descriptors  origin     flags",
        "frog             2  generated  FM302",
        "newt             2  typed      FM204",
    ]
    result = runner.invoke(main, ["store", "list", file, "--json", "--grep", "mouth"])
    assert result.stdout == (
        '{"class":"frog","descriptors":2,"origin":"generated","flags":["FM302"],"effect":null,"review":null}\n'
    )


def _measure(file: str) -> None:
    metadata = {"data": "pond", "model": "clip", "preset": "article", "pictures": 500}
    effects = [
        DescriptorEffect("wide mouth", -0.012, -0.3, 50),
        DescriptorEffect("may be green", 0.004, 0.1, 50),
    ]
    write_effects(Store(file), {"frog": effects}, metadata, Stamp(at="2026"))


@pytest.mark.parametrize(
    ("order", "classes"),
    [("name", "Axolotl frog newt"), ("count", "Axolotl newt frog"), ("effect", "frog newt Axolotl")],
)
def test_list_sorted(runner: CliRunner, file: str, order: str, classes: str) -> None:
    Store(file).append(Entry("Axolotl"), Entry("newt", ("crest",)))
    _measure(file)
    shown = _json(runner.invoke(main, ["store", "list", file, "--sort", order, "--json"]).stdout)
    assert sorted((str(row["class"]), row["effect"]) for row in shown) == [
        ("Axolotl", None),
        ("frog", -0.012),
        ("newt", None),
    ]
    assert " ".join(str(row["class"]) for row in shown) == classes


def test_measured_effects_are_shown(runner: CliRunner, file: str) -> None:
    _measure(file)
    assert runner.invoke(main, ["store", "list", file, "--grep", "frog"]).stdout.splitlines() == [
        "class  descriptors  origin     flags        worst effect",
        "frog             2  generated  FM302 FM501          -1.2",
    ]
    shown = runner.invoke(main, ["store", "show", file, "frog"]).stdout
    assert [line.rstrip() for line in shown.splitlines()][1:5] == [
        "   descriptor    flags  effect",
        "1  wide mouth    FM501    -1.2",
        "2  may be green  FM302    +0.4",
        "effect: points of accuracy on 500 images of pond; clip, article, 2026",
    ]
    shown = runner.invoke(main, ["store", "history", file, "frog"]).stdout
    assert shown.splitlines()[-1] == "2. measured, 2026, pond"


def test_list_missing(runner: CliRunner, file: str) -> None:
    Path("classes.txt").write_text("toad\nfrog\n")
    assert runner.invoke(main, ["store", "list", file, "--missing", "classes.txt"]).stdout == "toad\n"
    result = runner.invoke(main, ["store", "list", file, "--missing", "classes.txt", "--json"])
    assert result.stdout == '{"class":"toad"}\n'


def test_what_an_answer_came_from_is_shown_for_people(runner: CliRunner, file: str) -> None:
    Store(file).append(
        Entry(
            "eft",
            ("crest",),
            origin=GENERATED,
            prompt={"name": "article", "style": "bullets"},
            params={"temperature": 0.0, "stop": ["\n\n", "\nQ:"], "seed": None},
            usage={"prompt_tokens": 7, "details": {"cached": 2}},
            rejected=("a, b", "c"),
            extra={"tags": ["x", "y"], "deep": [1, {"a": True}]},
        )
    )
    shown = runner.invoke(main, ["store", "show", file, "eft"]).stdout.splitlines()
    assert shown[3:] == [
        "prompt: name article, style bullets",
        'params: temperature 0.0, stop ["\\n\\n", "\\nQ:"], seed null',
        "usage: prompt_tokens 7, details cached 2",
        "rejected: a, b, c",
        "tags: x, y",
        'deep: [1, {"a": true}]',
    ]


def test_show(runner: CliRunner, file: str) -> None:
    result = runner.invoke(main, ["store", "show", file, "frog"])
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "frog  (generated)",
        "   descriptor    flags",
        "1  wide mouth",
        "2  may be green  FM302",
        "model: m",
        "answer:",
        "  - wide mouth",
        "  - may be green",
    ]
    shown = orjson.loads(runner.invoke(main, ["store", "show", file, "frog", "--json"]).stdout)
    assert (shown["class"], [finding["code"] for finding in shown["flags"]]) == ("frog", ["FM302"])


@pytest.mark.parametrize(
    "command", [["show", "newt"], ["list"], ["history", "newt"], ["stats"], ["lint"], ["lint", "--github"]]
)
def test_strangers_text_cannot_reach_the_terminal_raw(
    runner: CliRunner, file: str, command: list[str]
) -> None:
    result = runner.invoke(main, ["store", command[0], file, *command[1:]])
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


def test_history(runner: CliRunner, file: str) -> None:
    Store(file).append(Entry("frog", ("wide mouth",), origin="curated", by="ada", note="n", at="2026"))
    result = runner.invoke(main, ["store", "history", file, "frog"])
    assert result.stdout.splitlines() == [
        "1. generated, m",
        "   + wide mouth",
        "   + may be green",
        "2. curated, 2026, ada, n",
        "   - may be green",
    ]
    lines = _json(runner.invoke(main, ["store", "history", file, "frog", "--json"]).stdout)
    assert [line["origin"] for line in lines] == ["generated", "curated"]


def test_stats(runner: CliRunner) -> None:
    (numbers,) = _json(runner.invoke(main, ["store", "stats", "imagenette", "--json"]).stdout)
    assert (numbers["classes"], numbers["flags"]) == (10, {})
    rows = runner.invoke(main, ["store", "stats", "imagenette"]).stdout.splitlines()
    assert [" ".join(row.split()) for row in rows] == [
        "classes 10",
        "removed classes 0",
        "descriptors 68",
        "descriptors per class 6 min, 7 median, 7 max",
        "rejected descriptors 0",
        "review not reviewed (10)",
        "origin curated (10)",
        "models –",
        "prompts –",
        "lint –",
        "lines, with history 10",
        "failed answers 0",
        "tokens of all answers 0",
    ]


def test_tables_keep_to_the_width_of_a_terminal() -> None:
    rows = [("x" * 200, 1, "very long " * 30), ("frog", 22, "short")]
    heading, first, second = table_rows(("class", "count", "what"), rows, (1,), 80)
    assert [len(lines) for lines in (heading, second)] == [1, 1]
    assert max(map(len, first)) <= 80
    assert "".join(line.split()[0] for line in first).startswith("x" * 60)
    assert second[0].split() == ["frog", "22", "short"]


def test_tables_are_not_folded_in_a_pipe(runner: CliRunner, file: str) -> None:
    Store(file).append(Entry("x" * 200, ("very long " * 30,)))
    for command, text in ((["list", file], "x" * 200), (["lint", file], "very long " * 29)):
        result = runner.invoke(main, ["store", *command], env={"COLUMNS": "80"})
        assert any(text in line for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["list", "none.jsonl"],
            "none.jsonl does not exist: check the name, or create it with `fieldmarks generate`",
        ),
        (["show", "ids.jsonl", "n01"], "ids.jsonl has no class 'n01', but 'owl' has it among its ids"),
        (["show", "store.jsonl", "frg"], "store.jsonl has no class 'frg': did you mean 'frog'?"),
        (
            ["list", "store.jsonl", "--grep", "("],
            "'(' is not a regular expression: missing ), unterminated subpattern",
        ),
        (["list", "."], ". is a folder without descriptors.jsonl, so no pack: pass a .jsonl file"),
    ],
)
def test_errors_are_one_line(runner: CliRunner, file: str, arguments: list[str], message: str) -> None:
    Path("ids.jsonl").write_text('{"class": "owl", "descriptors": ["a"], "ids": ["n01"]}\n')
    result = runner.invoke(main, ["store", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1


def test_classes_and_shipped_stores_complete_in_the_shell(runner: CliRunner, file: str) -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        env = {
            "_FIELDMARKS_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        return runner.invoke(main, [], env=env, prog_name="fieldmarks").stdout.splitlines()

    assert complete("fieldmarks store show store.jsonl f") == ["plain,frog"]
    assert complete("fieldmarks store show store.jsonl ") == ["plain,frog", "plain,newt"]
    assert complete("fieldmarks store show none.jsonl ") == [""]
    assert "plain,imagenette" in complete("fieldmarks store list im")
    assert complete("fieldmarks store list sto") == ["file,sto"]


def test_completing_prints_no_message(file: str) -> None:
    with Path(file).open("ab") as store:
        store.write(b'{"class": "to')
    line = f"fieldmarks store show {file} f"
    env = {
        **os.environ,
        "_FIELDMARKS_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": "4",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    code = "from fieldmarks.cli import main; main(prog_name='fieldmarks')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("plain,frog\n", "")


def test_without_a_store_the_shipped_ones_are_listed(runner: CliRunner) -> None:
    result = runner.invoke(main, ["store", "list", "--json"])
    rows = {row["store"]: row for row in _json(result.stdout)}
    assert rows["imagenet"]["classes"] == 1000
    assert all(row["descriptors"] for row in rows.values())
    assert len(runner.invoke(main, ["store", "list"]).stdout.splitlines()) == 1 + len(rows)
    assert runner.invoke(main, ["store", "list", "--flagged"]).exit_code == 2


def test_the_list_shows_marks_where_there_are_some(runner: CliRunner, file: str) -> None:
    assert runner.invoke(main, ["store", "review", file, "newt", "--unsure", "--by", "ada"]).exit_code == 0
    result = runner.invoke(main, ["store", "list", file])
    assert result.stdout.splitlines() == [
        "class  descriptors  origin     flags  review",
        "frog             2  generated  FM302",
        "newt             2  typed      FM204  unsure",
    ]
    assert runner.invoke(main, ["store", "review", file, "newt", "--by", "ada"]).exit_code == 0
    left = runner.invoke(main, ["store", "list", file, "--unreviewed", "--json"])
    assert [row["class"] for row in _json(left.stdout)] == ["frog"]
    shown = runner.invoke(main, ["store", "show", file, "newt"]).stdout.splitlines()
    assert [line for line in shown if line.startswith("review: approved, ada, 20")]
    last = runner.invoke(main, ["store", "history", file, "newt"]).stdout.splitlines()[-1]
    assert last.startswith("3. approved, 20")
    assert last.endswith(", ada")


def test_a_folder_named_like_a_shipped_store_hides_it_for_no_command(
    runner: CliRunner, own_folder: Path
) -> None:
    for name in ("frogs", "demo", "pets"):
        Path(name).mkdir()
    Path("frogs.txt").write_text("bullfrog")
    listed = runner.invoke(main, ["store", "list"])
    assert listed.exit_code == 0, listed.stderr
    assert runner.invoke(main, ["store", "list", "pets"]).stderr.startswith("Listed 37 classes of pets.")
    Path("imagenette").write_text('{"class": "mine"}\n')
    assert runner.invoke(main, ["store", "list"]).stdout == listed.stdout
    assert runner.invoke(main, ["store", "list", "imagenette"]).stdout.split()[4] == "mine", "a file is"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "frogs", "Wren"], "frogs has no class 'Wren': `fieldmarks store list frogs` shows them\n"),
        (["list", "imagenett"], "imagenett does not exist (did you mean 'imagenette'?): check the name"),
    ],
)
def test_a_shipped_store_is_called_by_its_name(
    runner: CliRunner, own_folder: Path, arguments: list[str], message: str
) -> None:
    assert runner.invoke(main, ["store", *arguments]).stderr.startswith(f"Error: {message}")


def test_a_pack_is_read_by_its_folder(runner: CliRunner, file: str) -> None:
    pytest.importorskip("pyarrow")
    assert runner.invoke(main, ["store", "pack", file, "pack", "--licence", "cc0-1.0"]).exit_code == 0
    assert runner.invoke(main, ["store", "list", "pack"]).stderr.startswith("Listed 2 classes of pack.")
    assert runner.invoke(main, ["store", "copy", "pack", "x.jsonl"]).exit_code == 0
    assert Store("x.jsonl").names() == ["frog", "newt"]
    refused = runner.invoke(main, ["store", "add", "pack", "frog", "x"]).stderr
    assert refused == (
        "Error: pack is a pack and is read-only: `fieldmarks store copy pack FILE` makes one of your own\n"
    )
    again = runner.invoke(main, ["store", "pack", "pack", "again"])
    assert again.stderr == "Packed 2 classes in again. Its licence is that of pack: cc0-1.0.\n"
    assert 'license: "cc0-1.0"' in Path("again/README.md").read_text()
    odd = runner.invoke(main, ["store", "pack", file, "odd", "--licence", "foo"])
    assert odd.exit_code == 0
    assert (
        "foo is not among the licence ids of the hub that are known here; did you mean other?" in odd.stderr
    )
