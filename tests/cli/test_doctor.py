"""`fieldmarks doctor`: a table of what works."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.generation.scripted_server import (
    Call,
    Reply,
    Script,
    ScriptedServer,
    chat,
    like_mistral,
    like_openai,
    refusal,
)

from fieldmarks.classification.encoder import Encoder
from fieldmarks.cli import main


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as serving:
        yield serving


def _with_models(script: Script, *models: str) -> Script:
    listing = Reply({"object": "list", "data": [{"id": one} for one in models]})
    return lambda call: listing if call.path.endswith("/models") else script(call)


def _doctor(runner: CliRunner, server: ScriptedServer) -> tuple[int, list[str]]:
    result = runner.invoke(main, ["doctor", "--base-url", server.url, "--model", "m"])
    assert result.stderr == ""
    return result.exit_code, [line.rstrip() for line in result.stdout.splitlines()]


def test_each_mode_gets_its_line(runner: CliRunner, server: ScriptedServer) -> None:
    server.script = _with_models(like_mistral, "m", "n")
    assert _doctor(runner, server) == (
        0,
        [
            f"yes  reachable                {server.url} answers and accepts the key",
            "yes  model listed             m",
            "NO   mode completions         status 404: Not Found",
            "NO   mode continue            status 422: [{'type': 'extra_forbidden', 'loc': ['body',"
            " 'add_generation_prompt'], 'msg': 'Extra inputs are not permitted'}]",
            "yes  mode prefix              continues: - green skin - large round eyes - long legs",
            "NO   mode trailing            status 400: Expected last role User or Tool (or Assistant with"
            " prefix True) but got assistant",
            "note mode instruct            answers, begins anew: Sure, here are useful features: - green skin"
            " - large round e",
            "yes  mode that auto takes     prefix",
        ],
    )


def test_a_model_that_is_not_listed_is_noted(runner: CliRunner, server: ScriptedServer) -> None:
    server.script = _with_models(like_openai, "gpt-1", "gpt-2\x1b[31m")
    code, lines = _doctor(runner, server)
    assert code == 0
    assert lines[1] == "note model listed             no 'm' among gpt-1, gpt-2 [31m"
    assert lines[-1] == "yes  mode that auto takes     instruct"


def test_a_thinking_model_is_warned_of(runner: CliRunner, server: ScriptedServer) -> None:
    def script(call: Call) -> Reply:
        if call.path.endswith("/v1/completions"):
            return refusal(404, "no")
        return chat("- a", reasoning_content="let me think")

    server.script = script
    _, lines = _doctor(runner, server)
    assert (
        "note thinks before it answers yes: its thoughts use up --max-tokens, so give it room, say 2000"
        in lines
    )


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (lambda _: refusal(401, "who are you?"), "answers 401 (who are you?): check OPENAI_API_KEY"),
        (
            lambda _: refusal(404, "no model m"),
            "answers in no mode; the last said status 404: no model m: check --model",
        ),
    ],
)
def test_what_cannot_work_exits_1(
    runner: CliRunner, server: ScriptedServer, script: Script, line: str
) -> None:
    server.script = script
    code, lines = _doctor(runner, server)
    assert code == 1
    assert lines[-1].startswith(f"NO   endpoint                 {server.url} {line}")


def test_nobody_there(runner: CliRunner) -> None:
    with ScriptedServer() as gone:
        pass
    code, lines = _doctor(runner, gone)
    assert code == 1
    reason = "cannot be reached: no connection: Connection refused"
    assert lines == [f"NO   endpoint                 {gone.url} {reason}"]


def test_models_here_are_loaded(runner: CliRunner, demo_lm: Path, demo_clip: Path) -> None:
    result = runner.invoke(main, ["doctor", "--local", str(demo_lm), "--clip", str(demo_clip)])
    assert result.exit_code == 0, result.output
    local, clip, how, *notes = result.stdout.splitlines()
    assert local.startswith("yes  local model              lm@")
    assert local.endswith(" loads; context of 1024 tokens; continued raw")
    assert clip.startswith(f"yes  CLIP                     {demo_clip} loads; texts of ")
    encoder = Encoder(demo_clip)
    told = f"by {encoder.engine_name} in {encoder.dtype} on {encoder.device}"
    assert how == f"yes  CLIP computes            {told}"
    assert [line[30:] for line in notes] == encoder.notices


def test_models_that_do_not_load_exit_1(runner: CliRunner, demo_lm: Path, demo_clip: Path) -> None:
    result = runner.invoke(main, ["doctor", "--local", str(demo_clip), "--clip", str(demo_lm)])
    assert result.exit_code == 1
    assert [line[:24] for line in result.stdout.splitlines()] == [
        "NO   local model        ",
        "NO   CLIP               ",
    ]


def test_nothing_to_look_at_is_wrong_usage(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert runner.invoke(main, ["doctor"]).exit_code == 2
    assert runner.invoke(main, ["doctor", "--base-url", "http://h/v1"]).exit_code == 2
