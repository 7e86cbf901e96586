"""`fieldmarks embed`: images in, their embeddings out, as a set that grows."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.classify import conclude_images, image_paths, model_options, say_failure, watched
from fieldmarks.cli.console import images_line, shown
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.classification.embedding_writer import SetWriter


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="SET",
    help="Folder for the embeddings: new, or of an earlier run, to which only new images are added.",
)
@click.option("--prune", is_flag=True, help="Remove the embeddings of images whose file no longer exists.")
@click.option("--half", is_flag=True, help="Store float16, half as large, instead of float32.")
@model_options
def embed(images: tuple[str, ...], out: Path, prune: bool, half: bool, **options: Any) -> None:
    """Write the embeddings of IMAGES to the folder SET, to search them or to classify them again quickly.

    IMAGES are files, folders (searched recursively), globs, or - to read paths from stdin, one per line. Run
    it again to add new images: those that are in the set are not computed again, also if they were renamed,
    and a changed file replaces its earlier version. SET has clip-retrieval's layout: img_emb/*.npy (vectors
    of unit length), metadata/*.parquet, and a manifest. Needs the extra 'embed' (pyarrow). Unreadable images
    are listed at the end, and the exit code is then 3.

    \b
    Examples:
      fieldmarks embed photos/ --out photos.emb
      fieldmarks embed photos/ --out photos.emb --prune
      fieldmarks search photos.emb "a red bicycle"
      fieldmarks classify --image-embeddings photos.emb --store frogs.jsonl
    """
    from fieldmarks.classification.embedder import open_embedder
    from fieldmarks.classification.embedding_files import pyarrow_for
    from fieldmarks.classification.embedding_writer import SetWriter
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import quiet_pillow

    pyarrow_for("writing metadata")
    embedder, failed = open_embedder(**options), list[str]()
    paths, total = image_paths(images)
    with (
        quiet_pillow(),
        SetWriter(out, embedder.encoder.provenance, half=half) as writer,
        shown(sys.stderr, images_line) as show,
    ):
        new = embedder.images(writer.missing(paths))
        for result in writer.take(watched(new, show, None if writer.manifest.rows else total)):
            if isinstance(result, Failure):
                say_failure(result)
                failed.append(result.image)
        if prune:
            writer.prune()
    every = writer.added + writer.reused + writer.present + len(failed)
    conclude_images(failed, len(failed), every, _closing(writer, out))


def _closing(writer: "SetWriter", out: Path) -> str:
    """Return what a run did, as "Added 3 images to photos.emb (1,200 already there, 2 removed)"."""
    notes = [
        *([f"{writer.present:,} already there"] if writer.present else []),
        *([f"{writer.reused:,} known under another name"] if writer.reused else []),
        *([f"{writer.dropped:,} removed"] if writer.dropped else []),
    ]
    added = f"Added {counted(writer.added + writer.reused, 'image')} to {out}"
    aside = f" ({', '.join(notes)})" if notes else ""
    return f"{added}{aside}; it has {counted(writer.manifest.rows, 'image')}"
