"""`fieldmarks embed`: images in, their embeddings out, as a set that grows."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.console import images_line, shown
from fieldmarks.cli.images import (
    conclude_images,
    decode_option,
    find_images,
    image_paths,
    model_options,
    say_failure,
)
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.classification.embedder import Embedded
    from fieldmarks.classification.embedding_writer import SetWriter
    from fieldmarks.classification.results import Failure

    Source = str | Path | Failure


@click.command(short_help="Write embeddings of images, to search or classify later.")
@click.argument("images", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="SET",
    help="Folder for the embeddings: new, or from an earlier run, to which only new images are added.",
)
@click.option("--prune", is_flag=True, help="Remove the embeddings of images whose file no longer exists.")
@click.option("--half", is_flag=True, help="Store float16, half as large, instead of float32.")
@click.option(
    "--on",
    metavar="ray[=ADDRESS]",
    help="Run on Ray: on this machine, or on the cluster at ADDRESS ($RAY_ADDRESS). Needs the extra 'ray'.",
)
@click.option(
    "--actors",
    type=click.IntRange(1),
    metavar="N",
    help="With --on: processes that embed  [default: one per GPU, or per CPU].",
)
@click.option(
    "--readers",
    type=click.IntRange(1),
    metavar="N",
    help="With --on: processes that read and decode  [default: as many as Ray has room for].",
)
@click.option(
    "--trial",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Measure N images on this machine, print what a larger job would take, and write nothing.",
)
@decode_option
@model_options
def embed(
    images: tuple[str, ...],
    out: Path | None,
    prune: bool,
    half: bool,
    on: str | None,
    actors: int | None,
    readers: int | None,
    trial: int | None,
    **options: Any,
) -> None:
    """Write the embeddings of images to the folder SET, to search them or to classify them again quickly.

    SOURCE is an image, a folder (searched recursively), a glob, a .csv, .tsv or .jsonl manifest with a column
    image, or - to read paths from stdin, one per line; or, for large collections, .tar files (webdataset or
    any other layout), .parquet files with a column of images, a folder of these, and URLs of either, such as
    s3://, gs:// and hf://. Run it again to add what is new: images that are in the set are not computed
    again, even if they were renamed, and a changed file replaces its earlier version. Each .tar, and each row
    group of a .parquet, is embedded once as a whole; an unreadable image in it is a row with its error. SET
    has clip-retrieval's layout: img_emb/*.npy (vectors of unit length), metadata/*.parquet, and a manifest.
    Needs the extra 'embed' (pyarrow). Unreadable images are named on stderr, and the exit code is then 3, or
    1 if no image could be read.

    \b
    Examples:
      fieldmarks embed photos/ --out photos.emb
      fieldmarks embed photos/ --out photos.emb --prune
      fieldmarks embed 's3://bucket/train-*.tar' --out train.emb --on ray=auto
      fieldmarks search photos.emb "a red bicycle"
      fieldmarks classify --image-embeddings photos.emb --store frogs.jsonl
    """
    from fieldmarks.classification.embedding_writer import is_new
    from fieldmarks.errors import ImageError
    from fieldmarks.paths import unusable_folder
    from fieldmarks.scale.blocks import is_block_source

    sources = _without_manifests(images)
    archives = [isinstance(source, str) and is_block_source(source) for source in sources]
    _check_usage(out, archives, on=on, workers=actors or readers, trial=trial, prune=prune)
    if options["decode"] == "gpu" and (on or trial):
        raise click.UsageError("--decode gpu does not go with --on and --trial, where other processes decode")
    if out is not None:
        if reason := unusable_folder(out):
            raise ImageError(f"{out} {reason}")
        is_new(out)  # raises for a folder of something else, which would otherwise wait for the model
    if trial:
        _try(sources, all(archives), trial, half, options)
    elif out is not None and on is None and not all(archives):
        _embed_files(sources, out, prune, half, options)
    elif out is not None:
        _embed_blocks(sources, all(archives), out, half, on, (actors or 0, readers or 0), options)


def _without_manifests(images: Sequence[str]) -> "list[Source]":
    """Return the arguments with the images that a manifest lists in its place: Paths, and what is none."""
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import is_url, without_credentials
    from fieldmarks.data.manifest import MANIFEST_SUFFIXES, image_paths

    def listed(image: str) -> "Iterator[Source]":
        path = Path(image)
        if path.suffix.lower() not in MANIFEST_SUFFIXES or not path.is_file():
            yield image
            return
        for name in image_paths(path):
            problem = f"{path} lists an address: download the image and list its file"
            yield Failure(without_credentials(name), problem) if is_url(name) else Path(name)

    return [source for image in images for source in listed(image)]


def _check_usage(
    out: Path | None,
    archives: Sequence[bool],
    *,
    on: str | None,
    workers: int | None,
    trial: int | None,
    prune: bool,
) -> None:
    if any(archives) and not all(archives):
        raise click.UsageError("pass images, and archives or tables of images, in runs of their own")
    if (out is None) == (trial is None):
        raise click.UsageError("give either --out or --trial")
    if workers and on is None:
        raise click.UsageError("--actors and --readers need --on")
    if prune and all(archives):
        raise click.UsageError("--prune is for image files, not for archives and tables: leave it out")
    if prune and on:
        raise click.UsageError("--prune is for image files embedded in one process: leave out --on")


def _embed_files(
    images: "Sequence[Source]", out: Path, prune: bool, half: bool, options: dict[str, Any]
) -> None:
    """Embed image files in this process."""
    from fieldmarks.classification.embedder import open_embedder
    from fieldmarks.classification.embedding_files import pyarrow_for
    from fieldmarks.classification.embedding_writer import SetWriter
    from fieldmarks.classification.sources import quiet_pillow

    pyarrow_for("writing metadata")
    paths, total = image_paths(images, find_images(images))
    embedder = open_embedder(**options)
    with quiet_pillow(), SetWriter(out, embedder.encoder.provenance, half=half) as writer:
        new = embedder.images(writer.missing(paths))
        failed = _shown(writer.take(new), None if writer.manifest.rows else total)
        if prune:
            writer.prune()
    _conclude(writer, out, failed)


def _embed_blocks(
    images: "Sequence[Source]",
    are_archives: bool,
    out: Path,
    half: bool,
    on: str | None,
    workers: tuple[int, int],
    options: dict[str, Any],
) -> None:
    """Embed archives and tables, or anything on Ray."""
    from fieldmarks.classification.embedder import open_embedder
    from fieldmarks.classification.embedding_writer import SetWriter
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.scale import cluster
    from fieldmarks.scale.blocks import blocks_of
    from fieldmarks.scale.embedding import embed_blocks, embed_on_ray, file_blocks, missing_blocks
    from fieldmarks.scale.passes import Preprocessing

    found = iter(()) if are_archives else find_images(images)
    embedder = open_embedder(**options)
    encoder = embedder.encoder
    if on is None:
        blocks = blocks_of(map(str, images), without=out)
        with quiet_pillow(), SetWriter(out, encoder.provenance, half=half, of_blocks=True) as writer:
            failed = _shown(embed_blocks(writer, missing_blocks(writer, blocks), embedder), None)
        _conclude(writer, out, failed)
        return
    with quiet_pillow(), cluster.connected(cluster.address_of(on)) as ray:
        spec = cluster.agreed(ray, cluster.EncoderSpec(encoder.model, *encoder.requested, {}))
        number = cluster.Workers(*workers)
        with SetWriter(out, spec.provenance, half=half, of_blocks=are_archives) as writer:
            unread: list[Failure] = []
            if are_archives:
                sources: Sequence[Any] = missing_blocks(writer, blocks_of(map(str, images), without=out))
            else:
                paths, _ = image_paths(images, found)
                batch, readers = embedder.batch, cluster.readers(ray, number)
                sources, unread = file_blocks(writer, paths, batch, readers)
            preprocessing = Preprocessing.of(spec.open())
            done = embed_on_ray(ray, writer, sources, spec, preprocessing, embedder.batch, number)
            failed = _shown(chain(unread, done), None)
    _conclude(writer, out, failed)


def _try(
    images: "Sequence[Source]", are_archives: bool, number: int, half: bool, options: dict[str, Any]
) -> None:
    """Measure a job on its first images and print what a larger one would take."""
    from fieldmarks.classification.embedder import open_embedder
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.scale.blocks import blocks_of
    from fieldmarks.scale.forecast import trial
    from fieldmarks.scale.passes import Files

    found = iter(()) if are_archives else find_images(images)
    embedder = open_embedder(**options)
    with quiet_pillow():
        if are_archives:
            sources: Sequence[Any] = blocks_of(map(str, images))
        else:
            paths = [path for path in found if not isinstance(path, Failure)][:number]
            sources = [Files(tuple((path, path) for path in paths))] if paths else []
        result = trial(sources, embedder.encoder, embedder.batch, number, half)
    for line in result.lines():
        click.echo(line)


def _shown(results: "Iterable[Embedded | Failure]", total: int | None) -> int:
    """Go through results with a line of progress, and return how many images failed."""
    from fieldmarks.classification.results import Failure, reporting

    failed = 0
    with shown(sys.stderr, images_line) as show:
        for result in reporting(results, total, show):
            if isinstance(result, Failure):
                say_failure(result)
                failed += 1
    return failed


def _conclude(writer: "SetWriter", out: Path, failed: int) -> None:
    done = writer.added + writer.reused + writer.present
    conclude_images(failed, done, _closing(writer, out))


def _closing(writer: "SetWriter", out: Path) -> str:
    """Return what a run did, as "Added 3 images to photos.emb (1,200 already there, 2 removed)"."""
    notes = [
        *([f"{writer.present:,} already there"] if writer.present else []),
        *([f"{writer.reused:,} known under another name"] if writer.reused else []),
        *([f"{writer.dropped:,} removed"] if writer.dropped else []),
    ]
    added = f"Added {counted(writer.added + writer.reused, 'image')} to {out}"
    aside = f" ({', '.join(notes)})" if notes else ""
    return f"{added}{aside}; it has {counted(writer.manifest.images, 'image')}"
