"""`fieldmarks cache`: the embeddings that are kept for later runs."""

import click


@click.group()
def cache() -> None:
    """Look at the kept embeddings, or drop them; all of them can be computed again."""


@cache.command()
def info() -> None:
    """Show where the kept embeddings are, how many, and how much room they take.

    \b
    Example:
      fieldmarks cache info
    """
    from fieldmarks.classification.cache import EmbeddingCache

    shown = EmbeddingCache().info()
    click.echo(
        f"{shown.path}\n{shown.entries} embeddings, {_megabytes(shown.size)} of {_megabytes(shown.limit)}"
    )


@cache.command()
def clear() -> None:
    """Drop all kept embeddings.

    \b
    Example:
      fieldmarks cache clear
    """
    from fieldmarks.classification.cache import EmbeddingCache

    click.echo(f"{_megabytes(EmbeddingCache().clear())} freed")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
