"""`store pack` and `store page`: write a whole store for others to use or review."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fieldmarks.cli.console import conclude
from fieldmarks.cli.images import check_new, force_option, page_options
from fieldmarks.cli.store.group import store_argument

if TYPE_CHECKING:
    from fieldmarks.store import Store
    from fieldmarks.store.card import AccuracyTable

_LICENCE: Final = re.compile(r"[A-Za-z0-9][\w.+-]*")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")


@click.command()
@store_argument
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--title", metavar="TEXT", help="Title of the card  [default: the number of classes].")
@click.option(
    "--author",
    "authors",
    metavar="NAME",
    multiple=True,
    help="Author named on the card; repeatable  [default: the authors recorded in the store].",
)
@click.option("--no-authors", is_flag=True, help="Leave out all names of people, on the card and in lines.")
@click.option("--no-answers", is_flag=True, help="Leave out the raw answers of the models.")
@click.option("--source", metavar="TEXT", help="Where the lists come from: a title or a URL.")
@click.option(
    "--licence", "--license", metavar="ID", help="Licence, as the hub lists them: cc0-1.0, cc-by-4.0, mit …"
)
@click.option("--language", metavar="CODE", help="Language of the descriptors  [default: detected].")
@click.option(
    "--evaluation",
    metavar="RUN.json",
    type=click.Path(path_type=Path),
    help="Put the figures of `fieldmarks evaluate --json` with this store on the card.",
)
def pack(
    store: str,
    folder: Path,
    title: str | None,
    authors: tuple[str, ...],
    no_authors: bool,
    no_answers: bool,
    source: str | None,
    licence: str | None,
    language: str | None,
    evaluation: Path | None,
) -> None:
    """Write a store as a folder to publish.

    DIR gets the current lists (JSONL), a table (Parquet), a card (README.md) and a machine-readable
    description (Croissant 1.1). Upload it to the Hugging Face Hub with `hf upload NAME DIR --repo-type
    dataset`, and anybody can use it with `--store hf:NAME@REVISION`.

    Endpoint addresses and the paths of your folders are left out, and so is the history. A store with
    imported lists needs --licence. DIR must not exist.

    \b
    Examples:
      fieldmarks store pack mine.jsonl frogs-pack --licence cc-by-4.0 --title "Field marks of frogs"
      fieldmarks store pack mine.jsonl frogs-pack --no-authors --no-answers --evaluation run.json
    """
    from dataclasses import replace
    from difflib import get_close_matches

    from fieldmarks.store import Store
    from fieldmarks.store import pack as packing
    from fieldmarks.store.card import LICENCES, About, authors_of
    from fieldmarks.store.lint import counts, lint, project_config
    from fieldmarks.text import counted

    if no_authors and authors:
        raise click.UsageError("give either --author or --no-authors")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise click.UsageError(f"--licence {licence!r}: expected an id such as cc-by-4.0")
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise click.UsageError(f"--language {language!r}: expected a code such as en or pt-BR")
    packing.check_new(folder)
    opened = Store(store)
    entries = list(opened.entries())
    notes = []
    if licence is None and (licence := packing.licence_of_pack(opened)):
        notes = [f"Its licence is that of {store}: {licence}"]
    about = About(title, licence, source, language=language)
    if not no_authors:
        about = replace(about, authors=authors or authors_of(entries))
    about = replace(about, lint=counts(lint(entries, project_config())))
    if evaluation is not None:
        about = replace(about, measured=_measured(evaluation, opened))
    packing.pack(opened, folder, about, authors=not no_authors, answers=not no_answers)
    if not licence:
        notes = ["No licence is set: pass --licence before you publish it"]
    elif licence not in LICENCES:
        near = get_close_matches(licence, sorted(LICENCES), 1) or ["other"]
        notes = [
            f"{licence} is not among the licence ids of the hub that are known here; did you mean {near[0]}?"
        ]
    conclude(f"Packed {counted(len(entries), 'class')} in {folder}", *notes)


def _measured(path: Path, store: "Store") -> "AccuracyTable":
    """Return the figures of an evaluation of this store. Raises StoreError if it is another's."""
    import hashlib

    from fieldmarks.errors import StoreError
    from fieldmarks.evaluation.results import Difference, Estimate, Evaluation
    from fieldmarks.paths import last_name
    from fieldmarks.report.numbers import points, share
    from fieldmarks.store.card import AccuracyTable

    run = Evaluation.load(path)
    names = set(store.names())
    if unknown := [name for name in run.classes if name not in names]:
        raise StoreError(f"{path} is not an evaluation of {store.name}, which has no class {unknown[0]!r}")
    digest = run.settings.get("store_sha256")
    if digest is None:
        raise StoreError(
            f"{path} is not an evaluation of a store: pass one that `fieldmarks evaluate --store` made"
        )
    data = run.settings.get("data")
    data = data if isinstance(data, dict) else {}
    images = data.get("spec") or data.get("embeddings") or "an unnamed data set"
    model = run.settings.get("model") or "an unnamed model"
    where = f"On {len(run.labels):,} images of {last_name(str(images))} with {last_name(str(model))}"
    where += ", controls included; 95% confidence intervals in brackets, differences in points."
    if digest != hashlib.sha256(store.path.read_bytes()).hexdigest():
        where += " The lists may have changed since: this is a later state of the store."
    if names != {*run.classes}:
        where += f" {len(run.classes):,} of its {len(names):,} classes took part."

    def estimate(value: "Estimate | None") -> str:
        return "" if value is None else f"{share(value.value)}% ({share(value.low)}–{share(value.high)})"

    def difference(value: "Difference | None") -> str:
        if value is None:
            return "baseline"
        return f"{points(value.value)} ({points(value.low)} to {points(value.high)})"

    rows = [
        (arm.name, arm.role, arm.text, estimate(arm.top1), difference(arm.difference)) for arm in run.arms
    ]
    return AccuracyTable(where, ("arm", "role", "text", "top-1", "vs baseline"), rows)


@click.command()
@store_argument
@click.argument("file", metavar="FILE.html", type=click.Path(path_type=Path))
@page_options
@force_option
def page(store: str, file: Path, title: str | None, author: str | None, force: bool) -> None:
    """Write a whole store as one page for review.

    Shows every class, in the store's order, with its descriptors and what `store lint` finds in them, review
    marks, measured effects, ids and the classes that it is confused with. The page is a single file that
    makes no network requests; it can be filtered and printed. --force replaces an earlier page, but no other
    file.

    \b
    Examples:
      fieldmarks store page frogs frogs.html
      fieldmarks store page mine.jsonl review.html --title "Frogs of Borneo" --author "A. Finch"
    """
    from fieldmarks.report import document
    from fieldmarks.report.document import Imprint
    from fieldmarks.report.store_page import store_page
    from fieldmarks.store import Store
    from fieldmarks.store.lint import project_config
    from fieldmarks.text import counted

    document.check(file)
    check_new(force, {"FILE.html": file})
    opened = Store(store)
    document.write(file, store_page(opened, project_config(), Imprint(title, author)))
    conclude(f"Wrote a page of {counted(len(opened), 'class')} to {file}")
