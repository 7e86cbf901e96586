"""This product against what a user would run instead, side by side on this machine, in one command.

    python -m tests.benchmarks.peers TOKENIZER [--photos DIR] [--clip DIR] [--json FILE] [--page FILE]
    python -m tests.benchmarks.peers --gpu [--json FILE] [--page FILE]

TOKENIZER is a folder with CLIP's tokenizer and preprocessing as transformers reads them. Without --clip a
model of ViT-B/32's size with random weights is made, without --photos pictures are drawn, and without
--descriptors classes are made up. It takes about ten minutes on two cores. With --gpu it needs nothing but
torch, torchvision, transformers and click, and takes eight minutes; see gpu.py.
"""

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import click
from tests.benchmarks.peers import gpu, machine, material, rows
from tests.benchmarks.peers.comparisons import COMPARISONS, Material
from tests.benchmarks.peers.work import run

CLASSES = 200  # whose texts are encoded
FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.argument("tokenizer", type=FOLDER, required=False)
@click.option("--photos", type=FOLDER, help="A folder of JPEGs, searched at any depth.")
@click.option("--clip", type=FOLDER, help="The folder of a model of ViT-B/32's size.")
@click.option(
    "--descriptors", type=click.Path(exists=True, path_type=Path), help="A file {class: [descriptor]}."
)
@click.option(
    "--pictures", type=click.IntRange(4), default=200, show_default=True, help="How many are embedded."
)
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Times that each side runs."
)
@click.option(
    "--only", type=click.Choice(list(COMPARISONS)), multiple=True, help="Compare only this; repeatable."
)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Also write all figures.")
@click.option(
    "--page",
    type=click.Path(exists=True, path_type=Path),
    help="Also put the table into docs/speed.md, in the place of this machine's; others stay.",
)
@click.option("--gpu", "on_gpu", is_flag=True, help="Measure on a GPU, with drawn photos and made models.")
@click.option("--seconds", type=click.FloatRange(0.1), default=8.0, help="Of each step with --gpu.")
@click.option("--rehearsal", is_flag=True, help="With --gpu: tiny models, to see that all steps work.")
def main(
    tokenizer: Path | None,
    photos: Path | None,
    clip: Path | None,
    descriptors: Path | None,
    pictures: int,
    runs: int,
    only: tuple[str, ...],
    to: Path | None,
    page: Path | None,
    on_gpu: bool,
    seconds: float,
    rehearsal: bool,
) -> None:
    """Measure this product against its peers on this machine."""
    if on_gpu:
        _on_gpu(seconds, rehearsal, to, page)
        return
    if tokenizer is None:
        raise click.UsageError("name the folder of CLIP's tokenizer, or pass --gpu")
    with tempfile.TemporaryDirectory() as folder:
        # Workers leave their embeddings here; and no cache of an earlier run may help, but those of this one.
        os.environ |= {"FIELDMARKS_BENCHMARK": folder, "FIELDMARKS_CACHE": str(Path(folder) / "cache")}
        os.environ["HF_HUB_OFFLINE"] = "1"
        measured_on = Material(
            str(clip or _clip(tokenizer, Path(folder))),
            _pictures(photos, Path(folder), pictures),
            material.classes(descriptors, CLASSES),
            Path(folder),
            runs,
        )
        named = machine.name()
        print(rows.head(named))
        found: list[rows.Row] = []
        for name in only or COMPARISONS:
            fresh = COMPARISONS[name](measured_on)
            print(*(row.text() for row in fresh), sep="\n", flush=True)
            found += fresh
    if to:
        to.write_text(json.dumps(rows.plain(found, named), indent=1))
    if page:
        _update(page, found, named)


def _update(page: Path, found: list[rows.Row], named: dict[str, str]) -> None:
    day = datetime.now(UTC).date().isoformat()
    page.write_text(rows.updated(page.read_text("utf-8"), rows.markdown(found, named, day)), "utf-8")


def _on_gpu(seconds: float, rehearsal: bool, to: Path | None, page: Path | None) -> None:
    named = machine.name()
    found: list[rows.Row] = []
    problems: list[str] = []
    print(rows.head(named), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"FIELDMARKS_BENCHMARK": folder, "FIELDMARKS_CACHE": str(Path(folder) / "cache")}
        os.environ["HF_HUB_OFFLINE"] = "1"
        began = time.monotonic()
        for row, problem in gpu.measure(Path(folder), seconds=seconds, rehearsal=rehearsal):
            print(row.text() if row else problem, flush=True)
            print(f"    after {time.monotonic() - began:.0f} s", flush=True)
            found += [row] if row else []
            problems += [problem] if problem else []
            if to:  # after each row: a run that is cut off leaves what it has
                to.write_text(json.dumps(rows.plain(found, named) | {"not run": problems}, indent=1))
    if page:
        _update(page, found, named)


def _clip(tokenizer: Path, folder: Path) -> Path:
    made = folder / "clip"
    made.mkdir()
    run("material.clip", {"tokenizer": str(tokenizer), "folder": str(made)})
    return made


def _pictures(photos: Path | None, folder: Path, count: int) -> list[str]:
    if photos:
        paths = sorted(str(path) for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        if not paths:
            sys.exit(f"{photos} holds no JPEG")
        return list(islice(cycle(paths), count))
    drawn = folder / "photos"
    drawn.mkdir()
    paths = run("material.photos", {"folder": str(drawn), "count": count})["paths"]
    return list(paths)


if __name__ == "__main__":
    main()
