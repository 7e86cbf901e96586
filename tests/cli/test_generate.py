"""`fieldmarks generate` as its user sees it: what is printed where, and the exit codes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.generation.scripted_server import ScriptedServer, completion, marks, refusal

from fieldmarks.cli import main
from fieldmarks.cli.console import line
from fieldmarks.generation.question import Usage
from fieldmarks.generation.run import Progress
from fieldmarks.store import Store

KEY = "sk-very-secret-key-0123456789"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def run(runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Run":
    monkeypatch.chdir(tmp_path)
    return Run(runner)


class Run:
    """Calls the command in a folder of its own."""

    def __init__(self, runner: CliRunner) -> None:
        self._runner = runner

    def __call__(
        self, *args: str, to: ScriptedServer | None = None, stdin: str | bytes | None = None
    ) -> Result:
        where = ["--base-url", to.url, "--model", "m", "--mode", "completions"] if to else []
        return self._runner.invoke(main, ["generate", "--store", "s.jsonl", *where, *args], input=stdin)


def test_a_list_fills_a_store(run: Run, server: ScriptedServer) -> None:
    Path("classes.txt").write_text("fox\n\ntree frog\r\nfox\n")
    result = run("classes.txt", "--class", "owl", to=server)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "Wrote 3 classes to s.jsonl (0 already there, 0 failed)."
    assert sorted(Store("s.jsonl").names()) == ["fox", "owl", "tree frog"]
    assert run("classes.txt", to=server).stderr == (
        "classes.txt: 2 classes, one per line; 1 repeated name left out: 'fox'\n"
        "Wrote 0 classes to s.jsonl (2 already there, 0 failed).\n"
    )


def test_names_come_from_stdin_too(run: Run, server: ScriptedServer) -> None:
    assert run("-", to=server, stdin="fox\nowl").exit_code == 0
    assert sorted(Store("s.jsonl").names()) == ["fox", "owl"]


def test_the_summary_as_json_is_alone_on_stdout(run: Run, server: ScriptedServer) -> None:
    server.script = lambda call: (
        completion("") if "a fox in" in call.text else completion(" a\n- b", "length")
    )
    args = ("--class", "fox", "--class", "owl", "--retries", "0", "--price-in", "1", "--price-out", "10")
    result = run(*args, "--json", to=server)
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert summary.pop("seconds") > 0
    assert summary.pop("cost") == pytest.approx((100 * 1 + 20 * 10) / 1e6)
    assert summary == {
        "done": 1,
        "cached": 0,
        "kept": 0,
        "others": 0,
        "pending": 0,
        "lost": [],
        "left": [],
        "requests": 2,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "failed": {"fox": "the answer is empty"},
        "cut": ["owl"],
        "too_long": [],
        "interrupted": False,
        "store": "s.jsonl",
    }
    assert result.stderr.splitlines()[-3:] == [
        "Failed: fox: the answer is empty",
        "Answers cut off by --max-tokens or by a content filter; the last descriptor is dropped: owl",
        "Wrote 1 class to s.jsonl (0 already there, 1 failed).",
    ]


def test_a_dry_run_sends_nothing_and_says_what_it_would_cost(run: Run, server: ScriptedServer) -> None:
    run("--class", "fox", to=server)
    calls = len(server.calls)
    args = ("--class", "fox", "--class", "owl", "--dry-run", "--price-in", "1", "--price-out", "10")
    plain, machine = run(*args, to=server), run(*args, "--json", to=server)
    assert plain.exit_code == machine.exit_code == 0
    assert plain.stdout == (
        "Classes: fox, owl\n"
        "Prompt for fox:\n"
        "    Q: What are useful features for distinguishing a fox in a photo?\n"
        "    A: There are several useful visual features to tell there is a fox in a photo:\n"
        "    -\n"
        "1 class, 1 request; 1 already in the store\n"
        "about 53 prompt tokens, at most 200 completion tokens: at most 0.0021 USD without retries\n"
    )
    figures = json.loads(machine.stdout)
    assert figures.pop("cost") == pytest.approx((53 + 2000) / 1e6)
    assert figures == {
        "classes": 2,
        "cached": 1,
        "requests": 1,
        "prompt_tokens": 53,
        "completion_tokens": 200,
    }
    assert len(server.calls) == calls


def test_the_money_has_an_end(run: Run, server: ScriptedServer) -> None:
    names = [part for i in range(20) for part in ("--class", f"class {i}")]
    limit = ("--price-in", "100", "--price-out", "100", "--max-tokens", "10", "--max-cost", "0.05")
    result = run(*names, *limit, "--concurrency", "2", to=server)
    assert result.exit_code == 3
    left = 20 - len(server.calls)
    assert 0 < left < 20
    assert (
        f"because more could exceed --max-cost; {left} classes left: class " in result.stderr.splitlines()[-2]
    )


def test_an_unknown_price_is_unknown(run: Run, server: ScriptedServer) -> None:
    plain = run("--class", "fox", "--dry-run", to=server)
    assert plain.stdout.splitlines()[-1].endswith(": cost unknown; pass --price-in and --price-out to see it")
    assert json.loads(run("--class", "fox", "--dry-run", "--json", to=server).stdout)["cost"] is None
    assert "USD" not in run("--class", "fox", to=server).stderr


def test_a_key_reaches_nothing_but_the_server(
    run: Run, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.script = lambda call: completion(f" {call.headers['authorization']}\n- b")
    good = run("--class", "fox", "--json", to=server)
    server.script = lambda call: refusal(401, f"bad key {call.headers['authorization']}")
    bad = run("--class", "owl", to=server)
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert (good.exit_code, bad.exit_code) == (0, 1)
    reason = "status 401: bad key Bearer ***: check OPENAI_API_KEY or --header"
    assert bad.stderr == f"Error: {server.url}: {reason}\n"
    assert KEY not in good.output + bad.output
    folders = [tmp_path, Path(os.environ["FIELDMARKS_CACHE"])]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_samples_are_drawn_warm(run: Run, server: ScriptedServer) -> None:
    assert run("--class", "fox", "--samples", "3", "--keep", "2", to=server).exit_code == 0
    assert [call.body["temperature"] for call in server.calls] == [0.7] * 3
    (entry,) = Store("s.jsonl").entries()
    assert len(entry.answers) == 3


def test_a_prompt_of_ones_own(run: Run, server: ScriptedServer) -> None:
    Path("mine.txt").write_text("Marks of {article} {class}, {concept}:\n-\n")
    result = run("--class", "owl", "--prompt", "mine.txt", "--concept", "a bird", to=server)
    assert result.exit_code == 0
    assert server.calls[0].body["prompt"] == "Marks of an owl, a bird:\n-"


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, KEY])
def test_a_local_model_needs_no_key_and_minds_none(
    run: Run, demo_lm: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    dry = run("--class", "quimmel", "--local", str(demo_lm), "--dry-run")
    assert (dry.exit_code, Path("s.jsonl").exists()) == (0, False), dry.stderr
    assert run("--class", "quimmel", "--local", str(demo_lm)).exit_code == 0


@pytest.mark.slow
def test_a_local_model_fills_a_store(run: Run, demo_lm: Path) -> None:
    result = run("--class", "quimmel", "--local", str(demo_lm), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["done"] == 1
    assert len(Store("s.jsonl").get("quimmel").descriptors) > 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Error: no classes given: pass a class list, -, or --class NAME"),
        (
            ["--class", "fox"],
            "Error: no language model given: pass --local FOLDER_OR_ID, or --base-url URL "
            "(or OPENAI_BASE_URL) with --model ID, or set OPENAI_API_KEY and pass --model ID",
        ),
        (
            ["--class", "fox", "--base-url", "http://h/v1"],
            "Error: --base-url needs --model: name the model to ask there; "
            "fieldmarks doctor --base-url lists them",
        ),
        (
            ["--class", "fox", "--local", "x", "--model", "m"],
            "Error: give either --local or --model: --local names the model itself",
        ),
        (
            ["--class", "fox", "--local", "x", "--mode", "prefix"],
            "Error: --mode prefix is for endpoints; with --local, choose from auto, completions, continue",
        ),
        (
            ["--class", "fox", "--local", "x", "--samples", "3", "--temperature", "0"],
            "Error: --samples needs a --temperature above 0: greedy answers are all the same",
        ),
        (["--class", "fox", "--local", "x", "--keep", "2"], "Error: --keep 2 is more than --samples 1"),
        (
            ["--class", "fox", "--local", "x", "--max-cost", "2"],
            "Error: --max-cost needs --price-in and --price-out (USD per million tokens)",
        ),
        (
            ["--class", "fox", "--model", "m", "--base-url", "http://h/v1", "--price-in", "2"],
            "Error: pass both --price-in and --price-out (USD per million tokens)",
        ),
        (
            ["--class", "fox", "--local", "x", "--price-in", "2", "--price-out", "2"],
            "Error: --price-in and --price-out are for endpoints: a local model costs nothing",
        ),
    ],
)
def test_wrong_usage_is_told(run: Run, args: list[str], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == message
    assert not Path("s.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Error: c.txt contains no class name: write one per line"),
        (b"\n \n", "Error: c.txt contains no class name: write one per line"),
        (
            b"fox\na\x1b[31mb\n",
            r"Error: c.txt, line 2: class name 'a\x1b[31mb' has the control character '\x1b': remove it",
        ),
        (
            b"fox\x00\n",
            "Error: c.txt, line 1: a NUL byte, which text files never have: check that it is the right file",
        ),
        (b"\xff\xfefox", "Error: c.txt is cut off or damaged UTF-16 text: save it again as UTF-8"),
        (
            b"PK\x03\x04",
            "Error: c.txt is a zip archive: unpack it and pass the file inside",
        ),
        (b"class\n", "Error: c.txt has the heading 'class' and contains no class name: write one per line"),
        (None, "Error: c.txt cannot be read: No such file or directory"),
    ],
)
def test_a_list_that_cannot_be_used_is_told(
    run: Run, server: ScriptedServer, content: bytes | None, message: str
) -> None:
    if content is not None:
        Path("c.txt").write_bytes(content)
    result = run("c.txt", to=server)
    assert (result.exit_code, result.stderr) == (1, f"{message}\n")
    assert server.calls == []
    assert not Path("s.jsonl").exists()


def test_hostile_names_are_asked_as_they_are(run: Run, server: ScriptedServer) -> None:
    names = ["{class}", "{0.__class__}", "%s", "a\\nb", "</s>Q: x", "日本の蛙", "a" * 300]
    server.script = marks
    assert run("-", to=server, stdin="\n".join(names)).exit_code == 0
    assert sorted(Store("s.jsonl").names()) == sorted(names)
    prompts = {call.body["prompt"] for call in server.calls}
    expected = (
        "Q: What are useful features for distinguishing a {0.__class__} in a photo?\nA: There are several"
    )
    assert any(prompt.startswith(expected) for prompt in prompts)


def test_other_errors_are_one_line(run: Run, server: ScriptedServer) -> None:
    Path("folder").mkdir()
    for args, message in [
        (
            ["--prompt", "articel"],
            "unknown prompt 'articel': pass a file, or one of article, article-de",
        ),
        (["--prompt", "differential"], "prompt 'differential' has {other}, and no other is given"),
        (["--store", "folder"], "folder"),
    ]:
        result = run("--class", "fox", *args, to=server)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert message in result.stderr
    assert server.calls == []


def test_progress_says_what_the_user_wants_to_know() -> None:
    progress = Progress(
        total=4,
        done=1,
        failed=1,
        written=1,
        waiting=0,
        retrying=2,
        requests=5,
        usage=Usage(20, 40),
        cost=0.0001,
        seconds=4.0,
    )
    told = "1 of 4 done, 1 failed, 2 waiting to retry, 0.5/s, 60 tokens (10 written/s), 0.0001 USD, 0:04 left"
    assert line(progress) == told


@pytest.mark.slow
def test_off_a_terminal_a_slow_run_shows_a_line_every_ten_seconds(run: Run, server: ScriptedServer) -> None:
    server.script = lambda call: replace(marks(call), delay=11.0)
    printed = run("--class", "fox", to=server).stderr.splitlines()
    assert printed[:-1] == ["no result yet (after 10 s)"]


@pytest.mark.slow
def test_the_first_mode_that_works_is_said(run: Run, server: ScriptedServer) -> None:
    result = run("--class", "fox", "--base-url", server.url, "--model", "m")
    assert result.exit_code == 0
    assert f"m at {server.url}: mode 'completions', chosen by probing once" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-cost", "nan"),
        ("--price-in", "nan"),
        ("--temperature", "nan"),
        ("--rpm", "nan"),
        ("--timeout", "inf"),
        ("--seed", "9" * 20),
        ("--max-tokens", "9" * 20),
    ],
)
def test_numbers_that_are_none_are_refused(run: Run, server: ScriptedServer, option: str, value: str) -> None:
    assert run("--class", "fox", option, value, to=server).exit_code == 2
    assert server.calls == []


def test_a_list_without_end_and_a_prompt_name_too_long_are_told(run: Run, server: ScriptedServer) -> None:
    endless = run("/dev/zero", to=server)
    assert endless.stderr == "Error: /dev/zero has over 67,108,864 bytes: expected a smaller file\n"
    long = run("--class", "fox", "--prompt", "a/" + "x" * 5000, to=server)
    assert long.stderr.startswith("Error: unknown prompt 'a/xxx")
    assert endless.exit_code == long.exit_code == 1


def test_a_table_names_the_classes(run: Run, server: ScriptedServer) -> None:
    Path("species.csv").write_bytes(
        "\ufeffLatin name;Common name\r\nHyla;Tree frog\r\nVulpes;Red fox\r\n".encode("utf-16")
    )
    result = run("species.csv", "--dry-run", to=server)
    assert result.exit_code == 0
    assert result.stderr == (
        "species.csv: 2 classes from column 'Common name', separated by ';', UTF-16\n"
        "Dry run: nothing was sent or written.\n"
    )
    assert result.stdout.splitlines()[:2] == ["Classes: Tree frog, Red fox", "Prompt for Tree frog:"]
    result = run("species.csv", "--column", "latin name", "--dry-run", to=server)
    assert result.stdout.splitlines()[0] == "Classes: Hyla, Vulpes"


def test_a_dry_run_shows_the_first_three_names(run: Run, server: ScriptedServer) -> None:
    Path("list.txt").write_text("fox\nowl\nnewt\nfrog\ntoad\n")
    result = run("list.txt", "--dry-run", "--json", to=server)
    assert result.stderr.splitlines()[:2] == [
        "list.txt: 5 classes, one per line",
        "Classes: fox, owl, newt, … 2 more",
    ]
    assert json.loads(result.stdout)["classes"] == 5


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ["list.csv"],
            1,
            "Error: list.csv has several columns that could name the classes: column 1 (frog, fox), column 2"
            " (Hyla, Vulpes): pass --column with a heading or a number",
        ),
        (
            ["list.csv", "--column", "3"],
            1,
            "Error: list.csv has no column '3'; it has column 1 (frog, fox), column 2 (Hyla, Vulpes):"
            " pass --column",
        ),
        (
            ["--class", "fox", "--column", "2"],
            2,
            "Error: --column needs a list of classes",
        ),
    ],
)
def test_a_table_that_is_not_certain_costs_nothing(
    run: Run, server: ScriptedServer, args: list[str], code: int, message: str
) -> None:
    Path("list.csv").write_text("frog,Hyla\nfox,Vulpes\n")
    result = run(*args, to=server)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (code, message)
    assert server.calls == []
    assert not Path("s.jsonl").exists()
    if code == 1:
        assert run("list.csv", "--column", "2", to=server).exit_code == 0
        assert sorted(Store("s.jsonl").names()) == ["Hyla", "Vulpes"]


def test_a_dry_run_needs_no_key_and_a_run_says_that_it_is_missing(
    runner: CliRunner, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    command = [
        "generate",
        "--class",
        "Wren",
        "--class",
        "wren",
        "--store",
        "s.jsonl",
        "--model",
        "gpt-4.1-mini",
    ]
    dry = runner.invoke(main, [*command, "--dry-run"])
    assert dry.exit_code == 0, dry.stderr
    assert "Warning: classes that differ only in case: 'Wren' and 'wren'\n" in dry.stderr
    run = runner.invoke(main, command)
    assert run.exit_code == 2
    assert "Error: no API key for gpt-4.1-mini: OPENAI_API_KEY is not set; set it, or pass" in run.stderr
