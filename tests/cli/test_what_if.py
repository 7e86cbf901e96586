"""`fieldmarks what-if` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.evaluation.worlds import draw_species
from tests.kit import write_store

from fieldmarks.cli import main
from fieldmarks.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of four species and three pictures of each."""
    folder = tmp_path_factory.mktemp("species")
    draw_species(folder, 4, 3)
    return folder


@pytest.fixture
def args(species: Path, demo_clip: Path) -> list[str]:
    """The data set, the store and the model."""
    return [str(species / "pictures"), "--store", str(species / "species.jsonl"), "--clip", str(demo_clip)]


def _run(runner: CliRunner, *given: str, code: int = 0) -> Result:
    result = runner.invoke(main, ["what-if", *given])
    assert result.exit_code == code, result.output
    return result


def _accuracy(runner: CliRunner, store: Path, args: list[str]) -> tuple[float, list[int]]:
    inputs = [args[0], "--store", str(store), *args[3:], "--arms", "descriptors", "--json", "-"]
    arm = json.loads(runner.invoke(main, ["evaluate", *inputs]).stdout)["arms"][0]
    return arm["top1"]["value"], arm["runs"][0]["predicted"]


def test_it_is_what_the_changed_store_gives(
    runner: CliRunner, species: Path, args: list[str], tmp_path: Path
) -> None:
    names = Store(species / "species.jsonl").names()
    other = list(Store(species / "species.jsonl").entries())[1].descriptors
    before = (species / "species.jsonl").read_bytes()
    change = [word for text in other for word in ("--add", text)]
    change += [word for number in range(1, 8) for word in ("--drop", str(number))]
    found: dict[str, Any] = json.loads(_run(runner, names[0], *args, *change, "--json").stdout)
    assert (species / "species.jsonl").read_bytes() == before

    entries = {entry.name: entry.descriptors for entry in Store(species / "species.jsonl").entries()}
    entries[names[0]] = tuple(found["descriptors"])
    assert set(other) <= set(found["descriptors"])
    write_store(tmp_path / "after.jsonl", entries)
    was, predicted = _accuracy(runner, species / "species.jsonl", args)
    now, otherwise = _accuracy(runner, tmp_path / "after.jsonl", args)
    assert (found["accuracy_before"], found["accuracy_after"]) == pytest.approx((was, now))
    assert now < was
    flips = [(names[a], names[b]) for a, b in zip(predicted, otherwise, strict=True) if a != b]
    assert [(flip["before"], flip["after"]) for flip in found["flips"]] == flips
    assert "lost" in {flip["kind"] for flip in found["flips"]}


def test_what_is_printed(runner: CliRunner, species: Path, args: list[str]) -> None:
    entry = next(Store(species / "species.jsonl").entries())
    name, dropped = entry.name, entry.descriptors[0]
    result = _run(runner, name, *args, "--drop", "1")
    assert result.stdout.splitlines()[0] == f"{name} without {dropped!r}"
    assert result.stdout.splitlines()[1:] == [
        "accuracy: 100.00% before, 100.00% after, on 12 images",
        "newly wrong: 0",
        "newly right: 0",
        "wrong both times, answer changed: 0",
    ]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ([], 2, "pass a change: --add TEXT or --drop TEXT|NUMBER"),
        (["--drop", "99"], 1, "has no descriptor '99'"),
        (["--add", "{first}"], 1, "has these descriptors already"),
    ],
)
def test_wrong_changes(
    runner: CliRunner, species: Path, args: list[str], change: list[str], code: int, said: str
) -> None:
    entry = next(Store(species / "species.jsonl").entries())
    change = [word.format(first=entry.descriptors[0]) for word in change]
    assert said in _run(runner, entry.name, *args, *change, code=code).stderr


def test_an_unknown_class(runner: CliRunner, args: list[str]) -> None:
    result = _run(runner, "unicorn", *args, "--drop", "1", code=1)
    assert "has no class 'unicorn'" in result.stderr


def test_kept_embeddings_load_no_framework(runner: CliRunner, species: Path, args: list[str]) -> None:
    name = Store(species / "species.jsonl").names()[0]
    words = ["what-if", name, *args, "--drop", "1"]
    _run(runner, *words[1:])
    script = (
        "import sys\nfrom fieldmarks.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "on 12 images" in done.stdout
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert loaded & {"torch", "transformers", "openvino", "sklearn", "scipy", "datasets"} == set()


def test_a_class_without_descriptors_is_told(runner: CliRunner, species: Path, args: list[str]) -> None:
    name = Store(species / "species.jsonl").names()[0]
    every = [word for number in range(1, 9) for word in ("--drop", str(number))]
    result = _run(runner, name, *args, *every)
    note = "Note: without descriptors the class falls back to the prompt for its name\n"
    assert note in result.stderr.splitlines(keepends=True)


def test_embeddings_of_another_model_are_refused(
    runner: CliRunner, species: Path, args: list[str], tmp_path: Path
) -> None:
    names = Store(species / "species.jsonl").names()
    for size, said in (
        (5, "have 5 numbers and the texts' 64: they"),
        (64, "does not say which model made it"),
    ):
        vectors = np.random.default_rng(0).normal(size=(4, size)).astype(np.float32)
        np.savez(tmp_path / "kept.npz", embeddings=vectors, labels=np.array(names))
        given = ["--image-embeddings", str(tmp_path / "kept.npz"), *args[1:], "--drop", "1"]
        assert said in _run(runner, names[0], *given, code=int(size == 5)).stderr
