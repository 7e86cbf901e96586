"""`fieldmarks search`: the images of a set that show what is looked for, or its duplicates."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.console import conclude, emit
from fieldmarks.cli.files import OutputFile
from fieldmarks.cli.images import check_new, check_page, force_option, imprint, model_options, page_options
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.report.search_page import Page

TOP = 20


@click.command(short_help="Find images in a set by what they show.")
@click.argument("embeddings", metavar="SET", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="[TEXT]…")
@click.option("--not", "exclude", multiple=True, metavar="TEXT", help="Leave out images that show this.")
@click.option("--like", multiple=True, metavar="IMAGE", help="Find images that resemble this one.")
@click.option("--class", "class_name", metavar="NAME", help="Find a class of --store by all its descriptors.")
@click.option(
    "--descriptor",
    metavar="TEXT",
    help="Find images that show this descriptor in --store more than those of the other classes.",
)
@click.option("--store", metavar="FILE", help="Store that has the --class or --descriptor.")
@click.option(
    "--label",
    "labels",
    metavar="FILE",
    help="Labels to show: a .csv or .jsonl with columns image and label, or a folder per class.",
)
@click.option(
    "--disagree",
    is_flag=True,
    help="Only images that --label gives another label than the text or --class: likely mistakes.",
)
@click.option("--all", "show_all", is_flag=True, help="Also list images below the cut-off.")
@click.option(
    "--top", type=click.IntRange(min=1), default=TOP, show_default=True, help="How many images to list."
)
@click.option("--duplicates", is_flag=True, help="List images that repeat others, exactly or nearly.")
@click.option(
    "--near",
    type=click.FloatRange(0.5, 1),
    metavar="COSINE",
    help="Cosine of near duplicates  [default: 0.97].",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option("--report", type=OutputFile(".html"), help="Also write an HTML page with the images (.html).")
@page_options
@force_option
@click.option(
    "--link-into", type=click.Path(path_type=Path), metavar="DIR", help="Link to the images in a new folder."
)
@model_options
def search(
    embeddings: Path,
    texts: tuple[str, ...],
    form: str,
    duplicates: bool,
    near: float | None,
    link_into: Path | None,
    batch: int | None,
    force: bool,
    **options: Any,
) -> None:
    """Find the images in SET that show every TEXT.

    SET is a folder that `fieldmarks embed` wrote. Scores are z-scores: standard deviations from the mean over
    the set. An image is listed if the text fits it better than random words do, so a nonsense query finds
    nothing. Quote a text of several words; each further TEXT has to be visible too.

    \b
    Examples:
      fieldmarks embed photos/ --out photos.emb
      fieldmarks search photos.emb "a red bicycle"
      fieldmarks search photos.emb snow --not people --report snow.html
      fieldmarks search photos.emb --like photos/a.jpg --link-into similar/
      fieldmarks search photos.emb --descriptor "sticky toe pads" --store frogs.jsonl
      fieldmarks search photos.emb --class newt --store s.jsonl --label labels.csv --disagree
      fieldmarks search photos.emb --duplicates
    """
    model = {name: options.pop(name) for name in ("clip", "device", "dtype", "engine", "cache")}
    check_page(options)
    page = {name: options.pop(name) for name in ("report", "title", "author")}
    if duplicates:
        _check_alone(click.get_current_context())
        _check_report(page["report"], force)
        _list_duplicates(embeddings, near, form, page)
        return
    if near is not None:
        raise click.UsageError("--near goes with --duplicates")
    _check_report(page["report"], force, link_into)
    _search(embeddings, texts, options, model, form, link_into, page)


def _search(
    path: Path,
    texts: tuple[str, ...],
    options: dict[str, Any],
    model: dict[str, Any],
    form: str,
    link_into: Path | None,
    page: dict[str, Any],
) -> None:
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.cli.render import search as render
    from fieldmarks.retrieval import linking
    from fieldmarks.retrieval.searcher import Searcher

    if link_into:
        linking.check_folder(link_into)
    with quiet_pillow():
        searcher = Searcher(path, **model)
        result = searcher.find(texts, **options)
        closing = [render.closing(result, path, options["show_all"], options["disagree"])]
        if form == "jsonl":
            for hit in result.hits:
                emit(hit.to_dict())
        elif form == "csv":
            click.echo(render.csv_of(result.hits), nl=False)
        else:
            for line in render.table(result.hits):
                click.echo(line)
        if link_into:
            missing = linking.link(result.hits, searcher.embeddings, link_into)
            lost = f"; {counted(missing, 'file')} missing" if missing else ""
            closing.append(f"Linked {counted(len(result) - missing, 'image')} in {link_into}{lost}")
        if page["report"]:
            from fieldmarks.report.search_page import search_page

            written = search_page(
                result,
                searcher.embeddings,
                like=options["like"],
                show_all=options["show_all"],
                disagree=options["disagree"],
                facts={"Store": options["store"] or "", "Labels": options["labels"] or ""},
                imprint=imprint(page),
            )
            closing.append(_write(page["report"], written))
    conclude(*closing)


def _check_alone(context: click.Context) -> None:
    """Raise UsageError for options that have no effect on --duplicates."""
    given = click.core.ParameterSource.COMMANDLINE
    allowed = {"embeddings", "duplicates", "near", "form", "report", "title", "author", "force"}
    for param in context.command.params:
        if param.name not in allowed and context.get_parameter_source(param.name or "") is given:
            named = "TEXT" if param.name == "texts" else param.opts[0]
            raise click.UsageError(f"--duplicates compares all images: leave out {named}")


def _check_report(report: Path | None, force: bool, link_into: Path | None = None) -> None:
    """Raise ReportError where the page could not be written, UsageError where it is the folder of links."""
    if report:
        from fieldmarks.report import document

        if link_into and os.path.realpath(report) == os.path.realpath(link_into):
            raise click.UsageError("--report and --link-into name the same place; pass different ones")
        document.check(report)
    check_new(force, {"--report": report})


def _write(path: Path, page: "Page") -> str:
    """Write a page, and return what the closing line says of it."""
    from fieldmarks.report import document

    document.write(path, page.html)
    lost = f"; it names {counted(page.unread, 'image')} that cannot be read" if page.unread else ""
    return f"Wrote {path}{lost}"


def _list_duplicates(path: Path, near: float | None, form: str, page: dict[str, Any]) -> None:
    from fieldmarks.classification.embedding_set import EmbeddingSet
    from fieldmarks.cli.render import search as render
    from fieldmarks.retrieval import duplicates
    from fieldmarks.retrieval.scan import Scan

    embeddings, limit = EmbeddingSet(path), duplicates.NEAR if near is None else near
    scan = Scan(embeddings.parts())
    exact = close = 0
    groups = []
    if form == "csv":
        click.echo(render.group_heading(), nl=False)
    for number, group in enumerate(duplicates.duplicates(scan, limit), 1):
        groups += [group] if page["report"] else []
        exact += (len(group.images) - 1) * (group.kind == "exact")
        close += (len(group.images) - 1) * (group.kind == "near")
        if form == "jsonl":
            emit(group.to_dict())
        elif form == "csv":
            click.echo(render.group_rows(number, group), nl=False)
        else:
            for line in render.group_lines(number, group):
                click.echo(line)
    images = embeddings.manifest.images if embeddings.manifest else scan.rows
    counts = f"{counted(exact, 'exact duplicate')}, {counted(close, 'near duplicate')}"
    closing = [f"{counted(images, 'image')} in {path}: {counts}"]
    if page["report"]:
        from fieldmarks.classification.sources import quiet_pillow
        from fieldmarks.report.search_page import duplicates_page

        with quiet_pillow():
            written = duplicates_page(groups, embeddings, images, limit, imprint(page))
        closing.append(_write(page["report"], written))
    conclude(*closing)
