"""`fieldmarks embed`: pictures in, a folder of embeddings out."""

import sys
from pathlib import Path
from typing import Any

import click

from fieldmarks.cli.classify import model_options, tell


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new folder for the embeddings."
)
@click.option("--allow-url", is_flag=True, help="Fetch IMAGES that are http or https addresses.")
@model_options
def embed(images: tuple[str, ...], out: Path, allow_url: bool, **options: Any) -> None:
    """Write the embeddings of IMAGES in the layout of clip-retrieval: img_emb/*.npy, metadata/*.parquet.

    IMAGES are files, folders (searched at any depth), globs, or - for paths on stdin, one a line.
    The vectors are float32 of unit length. Needs the extra 'embed' (pyarrow).

    \b
    Example:
      fieldmarks embed photos/ --out photos-embedded
      fieldmarks classify --image-embeddings photos-embedded --store frogs.jsonl
    """
    from fieldmarks.classification import interchange, run
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.cli.console import say
    from fieldmarks.wording import printable

    pictures = run.Pictures(inputs=images, stdin=sys.stdin, allow_url=allow_url)
    embedder = run.Model(**options, tell=say).embedder()
    written = failures = 0
    with quiet_pillow():
        for one in interchange.write(pictures.embedded(embedder), out, embedder.encoder.about):
            if isinstance(one, Failure):
                failures += 1
                say(f"Error: {printable(one.image)}: {printable(one.error)}")
            written += not isinstance(one, Failure)
    tell(embedder.notices)
    say(f"{written} embeddings are in {out}")
    if failures:
        click.get_current_context().exit(1)
