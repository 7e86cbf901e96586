"""`fieldmarks serve`: one loaded classifier answers requests over HTTP."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.configuration import prevailing
from fieldmarks.cli.console import conclude, say
from fieldmarks.cli.images import label_options, model_options
from fieldmarks.errors import FieldmarksError
from fieldmarks.extras import install, is_installed
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16  # characters


@click.command(short_help="Classify images over HTTP, with a web page.")
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option(
    "--classifier",
    type=click.Path(path_type=Path),
    help="Saved classifier (.safetensors), instead of --store.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with a token that requests must send; required unless --host is loopback.",
)
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="Host name that clients use for the server, as behind a reverse proxy; repeatable.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    metavar="MB",
    help="Largest request, in MB.",
)
@label_options
@model_options
@click.pass_context
def serve(
    context: click.Context,
    /,
    host: str,
    port: int,
    token_file: Path | None,
    allowed: tuple[str, ...],
    max_body: int,
    store: str | None,
    classifier: Path | None,
    **options: Any,
) -> None:
    """Classify images that are sent over HTTP, using one classifier that stays loaded.

    POST /classify takes an image as the body, or several as multipart/form-data, and answers as `classify
    --format jsonl` prints. GET /classes and GET /health say what is served; the web page at / classifies
    images that are dropped on it. Stops on Ctrl-C or SIGTERM, once requests in progress are answered. Needs
    the extra 'web' (starlette, uvicorn, httptools, python-multipart).

    \b
    Examples:
      fieldmarks serve --store frogs.jsonl
      fieldmarks serve --classifier frogs.safetensors --port 9000
      curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/classify
    """
    store, classifier = prevailing(context, "store", "classifier").values()
    if bool(store) == (classifier is not None):
        raise click.UsageError("give either --store or --classifier")
    if not is_installed("web"):
        needed = "starlette, uvicorn, httptools and python-multipart"
        raise FieldmarksError(f"serving needs {needed}: {install('web')}")
    token = None if token_file is None else _token(token_file)
    if host not in LOOPBACK and token is None:
        raise click.UsageError(f"--host {host} can be reached from elsewhere: pass --token-file too")
    from fieldmarks.serve import server
    from fieldmarks.serve.app import Service
    from fieldmarks.serve.guard import Access

    with server.bind(host, port) as listening:
        port = listening.getsockname()[1]
        wildcard = host in ("0.0.0.0", "::", "")
        names = LOOPBACK if host in LOOPBACK else (host, *LOOPBACK)
        access = Access.to(port, names, allowed, any_address=wildcard, token=token)
        labelling = {name: options.pop(name) for name in ("min_probability", "abstain", "sets", "back_off")}
        opened = _open(store, classifier, options, labelling)
        service = Service(opened, access, labelling, max_body=max_body * 2**20)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what clients send is not our news
        shown = f"[{host}]" if ":" in host else host
        say(f"Serving {counted(len(opened.classes), 'class')} at http://{shown}:{port}/ (Ctrl-C ends it)")
        try:
            server.run(service, listening)
        finally:
            batcher = service.batcher
            failed = f", {counted(batcher.failed, 'image')} could not be read" if batcher.failed else ""
            conclude(f"Classified {counted(batcher.classified, 'image')}{failed}")


def _open(
    store: str | None, classifier: Path | None, options: dict[str, Any], labelling: dict[str, Any]
) -> "Classifier":
    """Open the classifier and load its model, so that the first request does not wait for it."""
    import numpy as np

    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.store import Store

    opened = Classifier(Store(store), **options) if store else Classifier.load(classifier or "", **options)
    opened.predict(np.zeros((64, 64, 3), np.uint8), **labelling)
    return opened


def _token(path: Path) -> str:
    """Return the token in a file. Raises FieldmarksError for none, or one that is easily guessed."""
    from fieldmarks.paths import read_text

    token = read_text(path, 4096, FieldmarksError).strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise FieldmarksError(
            f"{path} has no token: write one of at least {SHORTEST_TOKEN} letters and digits into it, as"
            " `openssl rand -hex 32` prints"
        )
    if path.stat().st_mode & 0o077:
        logging.getLogger(__name__).warning("%s can be read by other users: chmod 600 %s", path, path)
    return token
