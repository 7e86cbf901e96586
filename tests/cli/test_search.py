"""`fieldmarks search`: what it prints, and what it refuses."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import write_store
from tests.retrieval.worlds import World, species_of

from fieldmarks.cli import main
from fieldmarks.demo.species import demo_species, entry

pytestmark = pytest.mark.slow  # a model is loaded
EXACT = ("--dtype", "float32", "--engine", "torch")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, demo_clip: Path) -> World:
    """The demo's species, six drawings of each."""
    pytest.importorskip("pyarrow")
    return World(tmp_path_factory.mktemp("world"), demo_clip, per_species=6)


@pytest.fixture
def folder(world: World, own_folder: Path) -> Path:
    """A working folder with a set of the world, and a store of its species."""
    world.write(own_folder / "set")
    write_store(own_folder / "s.jsonl", {name: list(entry(name)) for name in demo_species()})
    return own_folder


def test_texts_descriptors_and_classes(runner: CliRunner, folder: Path) -> None:
    result = runner.invoke(main, ["search", "set", "bright red skin", "--top", "2", *EXACT])
    heading, first, second = result.stdout.splitlines()
    assert (result.exit_code, heading) == (0, "rank   score  image")
    assert first.startswith("   1   +")
    assert second.startswith("   2   +")
    assert result.stderr.startswith(
        "12 of 72 images in set show 'bright red skin'; the best 2 are listed, see"
    )
    trait = ["--descriptor", entry("zorblat")[0], "--store", "s.jsonl"]
    lines = runner.invoke(main, ["search", "set", *trait, "--format", "jsonl", *EXACT]).stdout.splitlines()
    assert [json.loads(line)["rank"] for line in lines] == list(range(1, len(lines) + 1))
    assert set(json.loads(lines[0])) == {"rank", "image", "score"}
    comma = runner.invoke(main, ["search", "set", *trait, "--format", "csv", *EXACT])
    rows = list(csv.DictReader(io.StringIO(comma.stdout.removeprefix("\ufeff"))))
    hits = [json.loads(line) for line in lines]
    assert [(int(row["rank"]), row["image"], float(row["score"]), row["label"]) for row in rows] == [
        (hit["rank"], hit["image"], round(hit["score"], 4), "") for hit in hits
    ]
    named = ["--class", "zorblat", "--store", "s.jsonl", "--format", "jsonl"]
    found = runner.invoke(main, ["search", "set", *named, *EXACT])
    assert {species_of(json.loads(line)["image"]) for line in found.stdout.splitlines()} == {"zorblat"}


def test_nothing_is_said_to_be_nothing(runner: CliRunner, folder: Path) -> None:
    result = runner.invoke(main, ["search", "set", "mountain bicycle", *EXACT])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "Nothing in set fits 'mountain bicycle' better than random words do; --all shows the nearest images"
        " anyway.\n"
    )
    every = runner.invoke(main, ["search", "set", "mountain bicycle", "--all", "--top", "100", *EXACT])
    assert len(every.stdout.splitlines()) == 73
    empty = runner.invoke(main, ["search", "set", "mountain bicycle", "--format", "csv", *EXACT])
    assert empty.stdout == "\ufeffrank,image,score,label\n"
    asked = ["search", "set", "mountain bicycle", "--all", "--top", "100", "--format", "csv"]
    below = runner.invoke(main, [*asked, *EXACT])
    assert ",-" in below.stdout.splitlines()[-1], "a negative score is a number, not a guarded text"


def test_labels_that_disagree(runner: CliRunner, folder: Path, world: World) -> None:
    rows = [
        (path, "vontle" if path.match("zorblat/00.png") else species_of(str(path))) for path in world.images
    ]
    Path("labels.csv").write_text("image,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    asked = ["search", "set", "--class", "zorblat", "--store", "s.jsonl", "--label", "labels.csv"]
    result = runner.invoke(main, [*asked, "--disagree", *EXACT])
    assert result.stdout.splitlines()[0] == "rank   score  label   image"
    assert "vontle" in result.stdout
    assert " zorblat " not in result.stdout
    assert "show the class 'zorblat' and have another label." in result.stderr


def test_links_to_what_was_found(runner: CliRunner, folder: Path) -> None:
    asked = ["search", "set", "bright red skin", "--top", "3", *EXACT, "--link-into"]
    result = runner.invoke(main, [*asked, "red"])
    assert result.exit_code == 0
    assert "Linked 3 images in red." in result.stderr
    links = sorted(Path("red").iterdir())
    assert [link.name.partition("-")[0] for link in links] == ["1", "2", "3"]
    assert all(link.is_symlink() and link.resolve().is_file() for link in links)
    again = runner.invoke(main, [*asked, "red"])
    assert (again.exit_code, again.stderr) == (
        1,
        "Error: red already exists and is not an empty folder; choose a new one\n",
    )
    links[0].resolve().rename(links[0].resolve().with_suffix(".gone"))
    lost = runner.invoke(main, [*asked, "lost"])
    links[0].resolve().with_suffix(".gone").rename(links[0].resolve())
    assert "Linked 2 images in lost; 1 file missing." in lost.stderr


def test_duplicates(runner: CliRunner, folder: Path, world: World) -> None:
    copy = folder / "copy.png"
    copy.write_bytes(world.images[0].read_bytes())
    world.write(folder / "two", [*world.images[:12], copy])
    result = runner.invoke(main, ["search", "two", "--duplicates", "--near", "0.9999"])
    assert result.stdout.splitlines() == ["1. 2 images, the same file", f"   {world.images[0]}", f"   {copy}"]
    assert result.stderr == "13 images in two: 1 exact duplicate, 0 near duplicates.\n"
    lines = runner.invoke(main, ["search", "two", "--duplicates", "--format", "jsonl"]).stdout.splitlines()
    assert json.loads(lines[0]) == {
        "kind": "exact",
        "images": [str(world.images[0]), str(copy)],
        "similarity": 1,
    }
    rows = runner.invoke(main, ["search", "two", "--duplicates", "--format", "csv"]).stdout.splitlines()
    assert rows[0] == "\ufeffgroup,kind,similarity,image"
    assert rows[1:3] == [f"1,exact,1.0,{world.images[0]}", f"1,exact,1.0,{copy}"]


def test_a_page_of_what_was_found(runner: CliRunner, folder: Path, world: World) -> None:
    asked = ["search", "set", "bright red skin", "--top", "3", *EXACT, "--report", "red.html"]
    result = runner.invoke(main, [*asked, "--title", "Red ones", "--like", str(world.images[0]), "--all"])
    assert result.exit_code == 0
    assert result.stderr.endswith("Wrote red.html.\n")
    page = Path("red.html").read_text()
    assert "<h1><bdi>Red ones</bdi></h1>" in page
    assert page.count("<img ") == 4
    asked += ["--force"]
    image = Path(runner.invoke(main, asked).stdout.splitlines()[1].split()[-1])
    image.rename(image.with_suffix(".gone"))
    lost = runner.invoke(main, asked)
    image.with_suffix(".gone").rename(image)
    assert lost.stderr.endswith("Wrote red.html; it names 1 image that cannot be read.\n")
    assert f"{image}</bdi>: cannot be read: No such file or directory" in Path("red.html").read_text()


def test_a_page_of_duplicates(runner: CliRunner, folder: Path, world: World) -> None:
    copy = folder / "copy.png"
    copy.write_bytes(world.images[0].read_bytes())
    world.write(folder / "two", [*world.images[:12], copy])
    asked = ["search", "two", "--duplicates", "--near", "0.9999", "--report", "two.html"]
    result = runner.invoke(main, asked)
    assert result.stderr.endswith("1 exact duplicate, 0 near duplicates. Wrote two.html.\n")
    page = Path("two.html").read_text()
    assert "1 duplicate among 13 images" in page
    assert page.count("<img ") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["set"], 2, "there is nothing to search for: pass a text, an image, a class or a descriptor"),
        (["set", "x", "--duplicates"], 2, "--duplicates compares all images: leave out TEXT"),
        (["set", "--duplicates", "--not", "y"], 2, "--duplicates compares all images: leave out --not"),
        (["set", "x", "--near", "0.9"], 2, "--near goes with --duplicates"),
        (["set", "x", "--title", "y"], 2, "--title goes with --report FILE"),
        (
            ["set", "x", "--report", "y.html", "--link-into", "y.html"],
            2,
            "--report and --link-into name the same place",
        ),
        (["set", "x", "--disagree"], 2, "disagree compares labels with one class or one text: pass labels"),
        (["none", "x"], 1, "none: no such file or folder of embeddings"),
        (["empty", "x"], 1, "empty has no img_emb/*.npy; expected a folder written by `fieldmarks embed`"),
        (["set", "--like", "none.png"], 1, "none.png: cannot be read: No such file or directory"),
        (["set", "--like", "s.jsonl"], 1, "s.jsonl: not an image"),
    ],
)
def test_wrong_usage_is_one_line(
    runner: CliRunner, folder: Path, arguments: list[str], code: int, message: str
) -> None:
    Path("empty").mkdir()
    result = runner.invoke(main, ["search", *arguments, *(EXACT if "--duplicates" not in arguments else ())])
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")


def test_an_empty_set_says_so(runner: CliRunner, folder: Path, world: World) -> None:
    world.write(folder / "nothing", [])
    result = runner.invoke(main, ["search", "nothing", "x", *EXACT])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "nothing has no images: add some with `fieldmarks embed … --out nothing`.\n"
