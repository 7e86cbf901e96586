"""The command line: one module per command group, each imported by its own name here."""

from fieldmarks.cli.cache import cache
from fieldmarks.cli.calibrate import calibrate
from fieldmarks.cli.classify import classify
from fieldmarks.cli.compare import compare
from fieldmarks.cli.configuration import with_environment
from fieldmarks.cli.demo import demo
from fieldmarks.cli.doctor import doctor
from fieldmarks.cli.embed import embed
from fieldmarks.cli.evaluate import evaluate
from fieldmarks.cli.generate import generate
from fieldmarks.cli.learn import learn
from fieldmarks.cli.prompts import prompts
from fieldmarks.cli.root import main
from fieldmarks.cli.search import search
from fieldmarks.cli.serve import serve
from fieldmarks.cli.store import store
from fieldmarks.cli.unsort import unsort
from fieldmarks.cli.what_if import what_if

# In the order of work, in which `fieldmarks --help` lists them.
for command in (
    demo,
    doctor,
    prompts,
    generate,
    store,
    classify,
    unsort,
    learn,
    calibrate,
    evaluate,
    compare,
    what_if,
    embed,
    search,
    serve,
    cache,
):
    main.add_command(with_environment(command))

__all__ = ["main"]
