"""Answers: the same as `classify --format jsonl`, also for many at once; refusals say why."""

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.serve.served import Served, form, serving

from fieldmarks.cli import main
from fieldmarks.demo.species import demo_species

pytestmark = pytest.mark.slow
MODEL = ("--dtype", "float32", "--engine", "torch", "--no-cache")


def _name(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def test_answers_are_those_of_the_command(
    served: Served, zoo: Path, demo_clip: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(zoo)
    images = ["zorblat-0.png", "vontle-1.png"]
    asked = [
        "classify",
        *images,
        "--store",
        "s.jsonl",
        "--clip",
        str(demo_clip),
        "--format",
        "jsonl",
        "--explain",
    ]
    expected = runner.invoke(main, [*asked, *MODEL]).stdout.splitlines()
    body, headers = form([(name, (zoo / name).read_bytes()) for name in images])
    answer = served.ask("POST", "/classify?explain=true", body, headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    for line, other in zip(answer.body.splitlines(), expected, strict=True):
        ours, theirs = json.loads(line), json.loads(other)
        assert (ours["image"], ours["label"], set(ours)) == (theirs["image"], theirs["label"], set(theirs))
        for score, reference in zip(ours["scores"], theirs["scores"], strict=True):
            assert score["class"] == reference["class"]
            assert score["logit"] == pytest.approx(reference["logit"], abs=1e-3)
        assert [mark["descriptor"] for mark in ours["marks"]] == [
            mark["descriptor"] for mark in theirs["marks"]
        ]


def test_one_image_as_the_body(served: Served, zoo: Path) -> None:
    answer = served.classify(zoo / "zorblat-0.png", "?top=2")
    line = json.loads(answer.body)
    assert (answer.status, line["image"], line["label"], len(line["scores"])) == (
        200,
        "image 1",
        "zorblat",
        2,
    )
    assert "marks" not in line


def test_what_class_names_alone_predict_is_not_asked_for(
    zoo: Path, demo_clip: Path, tmp_path: Path, runner: CliRunner
) -> None:
    saved, image = tmp_path / "saved.safetensors", zoo / "zorblat-0.png"
    given = ["--store", str(zoo / "s.jsonl"), "--clip", str(demo_clip), *MODEL, "--baseline"]
    runner.invoke(main, ["classify", str(image), *given, "--save-classifier", str(saved)])
    expected = runner.invoke(
        main, ["classify", str(image), "--classifier", str(saved), *MODEL, "--format", "jsonl"]
    )
    with serving("--classifier", str(saved), *MODEL) as running:
        answer = json.loads(running.classify(image).body)
    assert set(answer) | {"marks", "decided"} == set(json.loads(expected.stdout)) | {"marks", "decided"}
    assert "baseline" not in answer


def test_broken_images_are_named_beside_the_others(served: Served, zoo: Path) -> None:
    body, headers = form([("a.png", b"hello"), ("b.png", (zoo / "vontle-0.png").read_bytes())])
    answer = served.ask("POST", "/classify", body, headers)
    broken, good = map(json.loads, answer.body.splitlines())
    assert (answer.status, good["label"]) == (200, "vontle")
    assert broken["image"] == "a.png"
    assert broken["error"].startswith("not an image")
    alone = served.ask("POST", "/classify", b"hello", {"Content-Type": "image/png"})
    assert (alone.status, set(json.loads(alone.body))) == (422, {"image", "error"})


def test_requests_at_once_get_their_own_answers(served: Served, zoo: Path) -> None:
    images = sorted(zoo.glob("*.png")) * 6
    wrong: list[object] = []

    def ask(image: Path, top: int) -> None:
        answer = served.classify(image, f"?top={top}&explain={'true' if top % 2 else 'false'}")
        line = json.loads(answer.body)
        if (line["label"], len(line["scores"]), "marks" in line) != (_name(image), top, bool(top % 2)):
            wrong.append((image, top, line))

    threads = [threading.Thread(target=ask, args=(image, 1 + at % 4)) for at, image in enumerate(images)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(threads) > 100
    assert wrong == []


def test_what_is_served(served: Served) -> None:
    assert json.loads(served.ask("GET", "/classes").body) == {"classes": list(demo_species())}
    assert json.loads(served.ask("GET", "/health").body)["status"] == "ok"
    for path, kind in (
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/palette.css", "text/css"),
    ):
        answer = served.ask("GET", path)
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("POST", "/classify?top=0", b"x", {}, 400, "top: expected a whole number from 1, found '0'"),
        ("POST", "/classify?top=x", b"x", {}, 400, "top: expected a whole number from 1, found 'x'"),
        ("POST", "/classify?explain=2", b"x", {}, 400, "explain: expected true or false, found '2'"),
        ("POST", "/classify", b"", {}, 400, "the request has no image: send its bytes as the body"),
        (
            "POST",
            "/classify",
            b"{}",
            {"Content-Type": "application/json"},
            415,
            "'application/json' is not an image type",
        ),
        ("POST", "/classify", b"x", {"Content-Type": "multipart/form-data"}, 400, "the form cannot be read"),
        ("POST", "/classify", *form([]), 400, "the form"),
        (
            "POST",
            "/classify",
            *form([(f"{n}.png", b"x") for n in range(65)]),
            400,
            "the form cannot be read: Too many",
        ),
        ("POST", "/classify", bytes(5 * 2**20), {}, 413, "the request has over 4,194,304 bytes, the limit"),
        ("GET", "/classify", None, {}, 405, "see / for what there is"),
        ("GET", "/elsewhere", None, {}, 404, "see / for what there is"),
    ],
)
def test_refusals_say_why(
    served: Served,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
    message: str,
) -> None:
    answer = served.ask(method, path, body, headers)
    assert answer.status == status
    assert json.loads(answer.body)["error"].startswith(message)


def test_a_server_for_others_asks_for_its_token(zoo: Path, demo_clip: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("0123456789abcdef0123\n")
    secret.chmod(0o600)
    asked = ["--store", str(zoo / "s.jsonl"), "--clip", str(demo_clip), *MODEL]
    with serving(
        *asked, "--host", "0.0.0.0", "--token-file", str(secret), "--allow-host", "a.example"
    ) as served:
        assert served.ask("GET", "/classes").status == 401
        assert served.classify(zoo / "zorblat-0.png").status == 401
        bearer = {"Authorization": "Bearer 0123456789abcdef0123"}
        assert served.ask("GET", "/classes", headers=bearer).status == 200
        assert served.ask("GET", "/classes", headers=bearer | {"Host": "a.example"}).status == 200
        assert served.ask("GET", "/classes", headers=bearer | {"Host": "b.example"}).status == 403
        assert served.ask("GET", "/health").status == 200
        assert served.ask("GET", "/").status == 200
        code, shown = served.stop()
    assert code == 143
    assert "0123456789abcdef0123" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--store", "s.jsonl", "--host", "0.0.0.0"],
            2,
            "--host 0.0.0.0 can be reached from elsewhere: pass",
        ),
        (
            ["--store", "s.jsonl", "--token-file", "short"],
            1,
            "short has no token: write one of at least 16 letters",
        ),
        (["--store", "s.jsonl", "--token-file", "none"], 1, "none cannot be read: No such file or directory"),
        (["--store", "none.jsonl"], 1, "none.jsonl"),
        (
            ["--store", "s.jsonl", "--host", "no.such.host.invalid"],
            2,
            "--host no.such.host.invalid can be reached",
        ),
        (["--store", "s.jsonl", "--allow-host", "a/b"], 2, "--allow-host 'a/b' is not a host name"),
        ([], 2, "give either --store or --classifier"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    runner: CliRunner,
    zoo: Path,
    demo_clip: Path,
    own_folder: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    Path("s.jsonl").write_bytes((zoo / "s.jsonl").read_bytes())
    Path("short").write_text("abc")
    result = runner.invoke(main, ["serve", "--port", "0", *arguments, "--clip", str(demo_clip), *MODEL])
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")


def test_a_port_in_use_is_one_line(served: Served, runner: CliRunner, zoo: Path) -> None:
    result = runner.invoke(main, ["serve", "--port", str(served.port), "--store", str(zoo / "s.jsonl")])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: port {served.port} on 127.0.0.1 cannot be used: Address already in use: pass another one"
        " with --port\n"
    )
