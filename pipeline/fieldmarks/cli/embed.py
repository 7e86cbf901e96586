"""`fieldmarks embed`: pictures in, a folder of embeddings out."""

import sys
from pathlib import Path
from typing import Any

import click

from fieldmarks.cli.classify import model_options, tell
from fieldmarks.cli.console import say
from fieldmarks.cli.output import exit_if_incomplete, say_failure
from fieldmarks.wording import counted


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
    The vectors are float32 of unit length. Needs the extra 'embed' (pyarrow). Images that cannot be read are
    named in the last lines, and the exit code is then 3.

    \b
    Example:
      fieldmarks embed photos/ --out photos-embedded
      fieldmarks classify --image-embeddings photos-embedded --store frogs.jsonl
    """
    from fieldmarks.classification import interchange, run
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import quiet_pillow

    interchange.check_place(out)
    pictures = run.Pictures(inputs=images, stdin=sys.stdin, allow_url=allow_url)
    embedder = run.Model(**options, tell=say).embedder()
    written, failed = 0, list[str]()
    with quiet_pillow():
        for result in interchange.write(pictures.embedded(embedder), out, embedder.encoder.about):
            if isinstance(result, Failure):
                say_failure(result)
                failed.append(result.image)
            written += not isinstance(result, Failure)
    left_out = pictures.contents.notice()
    tell([*embedder.notices, *([left_out] if left_out else [])])
    say(f"Wrote {counted(written, 'embedding')} to {out}")
    exit_if_incomplete(failed, len(failed), written + len(failed))
