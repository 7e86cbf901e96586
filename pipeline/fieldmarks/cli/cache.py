"""`fieldmarks cache`: the embeddings and converted models that are kept for later runs."""

import click


@click.group()
def cache() -> None:
    """Look at what is kept for later runs, or drop it; all of it can be computed again."""


@cache.command()
def info() -> None:
    """Show where embeddings and converted models are kept, how many, and how much room they take.

    \b
    Example:
      fieldmarks cache info
    """
    from fieldmarks.classification.cache import EmbeddingCache
    from fieldmarks.classification.engines import kept

    shown, models = EmbeddingCache().info(), kept.info()
    for what, one in (("embeddings", shown), ("converted models", models)):
        click.echo(f"{one.path}\n{one.entries} {what}, {_megabytes(one.size)} of {_megabytes(one.limit)}")


@cache.command()
def clear() -> None:
    """Drop all kept embeddings and converted models.

    \b
    Example:
      fieldmarks cache clear
    """
    from fieldmarks.classification.cache import EmbeddingCache
    from fieldmarks.classification.engines import kept

    click.echo(f"{_megabytes(EmbeddingCache().clear() + kept.clear())} freed")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
