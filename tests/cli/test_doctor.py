"""`fieldmarks doctor`: a table of what works."""

import re
from dataclasses import replace
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

from fieldmarks.classification.embedder import Encoder
from fieldmarks.cli import main


def _with_models(script: Script, *models: str) -> Script:
    listing = Reply({"object": "list", "data": [{"id": model} for model in models]})
    return lambda call: listing if call.path.endswith("/models") else script(call)


def _doctor(runner: CliRunner, server: ScriptedServer, news: str = "") -> tuple[int, list[str]]:
    result = runner.invoke(main, ["doctor", "--base-url", server.url, "--model", "m"])
    assert "\n".join(result.stderr.splitlines()[:-1]) == news.rstrip("\n")
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
            'note mode instruct            ignores the prefilled "-" and starts over: Sure, here are useful'
            " features: - green skin - large round e",
            "yes  mode chosen by auto      prefix",
        ],
    )


def test_a_model_that_is_not_listed_is_noted(runner: CliRunner, server: ScriptedServer) -> None:
    server.script = _with_models(like_openai, "gpt-1", "gpt-2\x1b[31m")
    code, lines = _doctor(runner, server, "the endpoint rejects 'temperature': sending requests without it\n")
    assert code == 0
    assert lines[1] == "note model listed             no 'm' among gpt-1, gpt-2 [31m"
    assert lines[-1] == "yes  mode chosen by auto      instruct"


def test_a_thinking_model_is_warned_of(runner: CliRunner, server: ScriptedServer) -> None:
    def script(call: Call) -> Reply:
        if call.path.endswith("/v1/completions"):
            return refusal(404, "no")
        return chat("- a", reasoning_content="let me think")

    server.script = script
    _, lines = _doctor(runner, server)
    assert (
        "note thinks before it answers yes: its reasoning counts towards --max-tokens, so allow for it,"
        " say 2000" in lines
    )


@pytest.mark.slow
def test_a_rate_limit_is_waited_out_and_told(runner: CliRunner, server: ScriptedServer) -> None:
    limited = replace(refusal(429, "slow down"), headers={"Retry-After": "0.6"})
    server.script = _with_models(lambda call: limited if call.number == 2 else like_mistral(call), "m")
    code, lines = _doctor(runner, server, "server asked us to wait 1 s (status 429: slow down)\n")
    assert code == 0
    assert lines[-1] == "yes  mode chosen by auto      prefix"


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (
            lambda _: refusal(401, "who are you?"),
            "status 401: who are you?: check OPENAI_API_KEY or --header",
        ),
        (
            lambda _: refusal(404, "no model m"),
            "no mode works; the last one got status 404: no model m: check --model",
        ),
    ],
)
def test_what_cannot_work_exits_1(
    runner: CliRunner, server: ScriptedServer, script: Script, line: str
) -> None:
    server.script = script
    code, lines = _doctor(runner, server)
    assert code == 1
    assert lines[-1].startswith(f"NO   endpoint                 {server.url}: {line}")


def test_nobody_there(runner: CliRunner) -> None:
    with ScriptedServer() as gone:
        pass
    code, lines = _doctor(runner, gone)
    assert code == 1
    reason = "connection refused: start the server, or check host and port in --base-url"
    assert lines == [f"NO   endpoint                 {gone.url}: {reason}"]


@pytest.mark.slow
def test_models_here_are_loaded(runner: CliRunner, demo_lm: Path, demo_clip: Path) -> None:
    result = runner.invoke(main, ["doctor", "--local", str(demo_lm), "--clip", str(demo_clip)])
    assert result.exit_code == 0, result.output
    local, *clip = result.stdout.splitlines()
    assert local.startswith("yes  local model              lm@")
    assert local.endswith(" loads; context of 1024 tokens; continued raw")
    encoder = Encoder(demo_clip)
    expected = {
        "CLIP": re.escape(f"{demo_clip} loads: clip model"),
        "text form": rf"as written, at most {encoder.max_tokens} tokens",
        "preprocessing": r"shorter side to \d+ pixels, cropped to the middle \d+ × \d+",
        "computes": rf"{encoder.engine_name} in {encoder.dtype} on cpu; logit scale [\d.]+",
        "speed": r"\d+ images/s, \d+ texts/s in \d+ dimensions",
        "checked": r"cosine error against torch at float32: texts \de-\d+, images \de-\d+"
        "|embeddings are finite and not all zeros",
    }
    for line, (subject, phrase) in zip(clip, expected.items(), strict=True):
        assert re.fullmatch(rf"yes  {subject:24} (?:{phrase})", line)


@pytest.mark.slow
def test_models_that_do_not_load_exit_1(runner: CliRunner, demo_lm: Path, demo_clip: Path) -> None:
    result = runner.invoke(main, ["doctor", "--local", str(demo_clip), "--clip", str(demo_lm)])
    assert result.exit_code == 1
    assert [line[:24] for line in result.stdout.splitlines()] == [
        "NO   local model        ",
        "NO   CLIP               ",
    ]


def test_without_options_the_installation_is_shown(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (own_folder / "file").touch()
    monkeypatch.setenv("FIELDMARKS_CACHE", str(own_folder / "file" / "cache"))
    result = runner.invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "note configuration            no fieldmarks.toml in this folder" in result.stdout.splitlines()
    assert f"note cache                    {own_folder}/file/cache cannot be written" in result.stdout
    assert "yes  extra eval               installed" in result.stdout.splitlines()


def test_the_configuration_file_in_use_is_shown(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (own_folder / "fieldmarks.toml").write_text('store = "mine.jsonl"\n')
    result = runner.invoke(main, ["doctor"])
    assert f"yes  configuration            {own_folder}/fieldmarks.toml" in result.stdout.splitlines()


def test_a_default_is_not_checked_beside_what_is_named(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    monkeypatch.setenv("FIELDMARKS_CLIP", str(own_folder / "no-clip"))
    with ScriptedServer(_with_models(like_mistral, "m")) as server:
        _, lines = _doctor(runner, server)
    assert not any("CLIP" in line for line in lines)


def _listed(runner: CliRunner, url: str, *options: str) -> tuple[int, list[str]]:
    result = runner.invoke(main, ["doctor", "--base-url", url, *options])
    assert len(result.stderr.splitlines()) == 1
    return result.exit_code, [line.rstrip() for line in result.stdout.splitlines()]


def test_without_a_model_the_servers_are_listed(runner: CliRunner, server: ScriptedServer) -> None:
    server.script = _with_models(like_openai, "gpt-1", "gpt-2\x1b[31m")
    assert _listed(runner, server.url) == (
        0,
        [
            f"yes  reachable                {server.url} answers and accepts the key",
            "note model                    gpt-1",
            "note model                    gpt-2 [31m",
            "note next                     pass --model with one of these to check that model",
        ],
    )
    assert len(server.calls) == 1
    server.script = _with_models(like_openai, "gpt-1")
    assert _listed(runner, server.url)[1][-1].endswith("pass --model gpt-1 to check that model")


def test_a_long_list_of_models_is_cut(runner: CliRunner, server: ScriptedServer) -> None:
    server.script = _with_models(like_openai, *(f"gpt-{i}" for i in range(350)))
    _, lines = _listed(runner, server.url)
    assert len(lines) == 103
    assert lines[-2] == "note model                    … and 250 more"


def test_a_server_without_a_list_of_models_is_no_failure(runner: CliRunner, server: ScriptedServer) -> None:
    server.script = lambda _: refusal(404, "Not Found")
    code, lines = _listed(runner, server.url)
    assert code == 0
    assert lines == [
        f"yes  reachable                {server.url} answers, but lists no models (status 404: Not Found)",
        "note next                     pass --model ID to check that model",
    ]


@pytest.mark.parametrize("listing", [[], {"data": None}, {"data": [5, {}, {"id": None}]}, "models"])
def test_a_list_of_another_form_is_no_failure(
    runner: CliRunner, server: ScriptedServer, listing: object
) -> None:
    server.script = lambda _: Reply(listing)
    code, lines = _listed(runner, server.url)
    assert code == 0
    assert lines[0].startswith("yes  reachable")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (lambda _: refusal(401, "no"), "status 401: no: check OPENAI_API_KEY or --header"),
        (
            lambda _: Reply(b"<html></html>"),
            "the reply is a web page: check --base-url, which often ends in /v1",
        ),
    ],
)
def test_a_server_that_lists_nothing_for_us_exits_1(
    runner: CliRunner, server: ScriptedServer, script: Script, reason: str
) -> None:
    server.script = script
    line = f"NO   endpoint                 {server.url}: {reason}"
    assert _listed(runner, server.url) == (1, [line])


def test_a_list_of_a_server_that_is_not_there_is_one_line(runner: CliRunner) -> None:
    with ScriptedServer() as gone:
        pass
    reason = "connection refused: start the server, or check host and port in --base-url"
    assert _listed(runner, gone.url) == (1, [f"NO   endpoint                 {gone.url}: {reason}"])
    (line,) = _listed(runner, "nonsense")[1]
    assert line.endswith("--base-url is not an endpoint's URL: write it like http://localhost:8000/v1")


def test_headers_and_query_reach_every_request(
    runner: CliRunner, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    script = _with_models(like_mistral, "m")
    server.script = lambda call: script(replace(call, path=call.path.partition("?")[0]))
    url = f"{server.url}?api-version=2024-02-01&x=a%2Fb"
    code, lines = _listed(
        runner, url, "--model", "m", "--header", "api-key=hush-hush=", "--header", "X-Title=a b"
    )
    assert code == 0, lines
    assert {call.headers["api-key"] for call in server.calls} == {"hush-hush="}
    assert {call.headers["x-title"] for call in server.calls} == {"a b"}
    assert not any("authorization" in call.headers for call in server.calls)
    assert {call.path.partition("?")[2] for call in server.calls} == {"api-version=2024-02-01&x=a%2Fb"}
    assert len(server.calls) == 6
    assert not any("hush" in line or "2024" in line for line in lines)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("hush-hush", "a header: expected NAME=VALUE"),
        ("=hush-hush", "expected a name of letters, digits and hyphens"),
        ("api key=hush-hush", "expected a name of letters, digits and hyphens"),
        ("api-key=hush\nhush", "its value contains a line break"),
        ("api-key=hüsh", "its value contains a line break"),
        ("Content-Length=hush", "fieldmarks sets it itself"),
    ],
)
def test_a_header_that_cannot_be_sent_is_wrong_usage(runner: CliRunner, header: str, words: str) -> None:
    result = runner.invoke(main, ["doctor", "--base-url", "http://h/v1", "--header", header])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert "hush" not in result.stderr


def test_a_header_twice_or_for_a_local_model_is_wrong_usage(runner: CliRunner, demo_lm: Path) -> None:
    twice = ["--base-url", "http://h/v1", "--header", "a=1", "--header", "A=2"]
    for arguments, words in (
        (["doctor", *twice], "'A' is given twice"),
        (["doctor", "--local", str(demo_lm), "--header", "a=1"], "--header is for endpoints"),
    ):
        result = runner.invoke(main, arguments)
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_faulty_configuration_is_one_of_the_results(runner: CliRunner, own_folder: Path) -> None:
    (own_folder / "fieldmarks.toml").write_text('top = "three"\n')
    result = runner.invoke(main, ["doctor"])
    assert result.exit_code == 1
    first, second, *_ = result.stdout.splitlines()
    assert first.split(maxsplit=2) == [
        "NO",
        "configuration",
        "fieldmarks.toml: top: expected a whole number from 1 on, found 'three'",
    ]
    assert second.startswith("yes  fieldmarks ")
    assert runner.invoke(main, ["store", "list"]).exit_code == 2  # other commands are refused
