"""`fieldmarks cache`: the embeddings, converted models and remembered endpoints kept for later runs."""

import click

from fieldmarks.cli.console import InOrder, conclude
from fieldmarks.errors import FieldmarksError
from fieldmarks.text import counted


@click.group(cls=InOrder, short_help="Show or clear what is kept for later runs.")
def cache() -> None:
    """Show or clear cached embeddings, converted models and endpoint settings.

    They are in $FIELDMARKS_CACHE, by default in ~/.cache/fieldmarks.
    """


@cache.command(short_help="Show what is cached, where, and its size.")
def info() -> None:
    """Show where embeddings, converted models and remembered endpoints are, and the space they take.

    \b
    Example:
      fieldmarks cache info
    """
    from fieldmarks.classification import cache_folder
    from fieldmarks.classification.cache import EmbeddingCache
    from fieldmarks.classification.engines import model_cache

    embeddings = EmbeddingCache()
    for kind, info in (("embedding", embeddings.info()), ("converted model", model_cache.info())):
        space = f"{_megabytes(info.size)} of {_megabytes(info.limit)}"
        click.echo(f"{info.path}\n{counted(info.entries, kind)}, {space}")
    path, entries, size = cache_folder.endpoints()
    click.echo(f"{path}\n{counted(entries, cache_folder.KNOWN_ENDPOINT)}, {_megabytes(size)}")
    conclude("Showed what is cached; `fieldmarks cache clear` removes it")


@cache.command()
def clear() -> None:
    """Remove cached embeddings, converted models and endpoint settings.

    This includes those of version 0.1. Files that fieldmarks did not create are listed and left alone.

    \b
    Example:
      fieldmarks cache clear
    """
    from fieldmarks.classification.cache_folder import parts

    listed = list(parts())
    for part in listed:
        if part.reason is None:
            click.echo(f"Remove {part.path}: {counted(part.entries, part.kind)}, {_megabytes(part.size)}")
        else:
            click.echo(f"Leave {part.path}: {part.reason}")
    ours = [part for part in listed if part.reason is None]
    for part in ours:
        try:
            part.remove()
        except OSError as error:
            raise FieldmarksError(f"{part.path} cannot be removed: {error.strerror}") from error
    conclude(f"Freed {_megabytes(sum(part.size for part in ours))}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
