"""The command line: one module per command group, each imported by its own name here."""

from fieldmarks.cli.cache import cache
from fieldmarks.cli.classify import classify, embed
from fieldmarks.cli.demo import demo
from fieldmarks.cli.doctor import doctor
from fieldmarks.cli.evaluate import evaluate
from fieldmarks.cli.generate import generate
from fieldmarks.cli.learn import learn
from fieldmarks.cli.prompts import prompts
from fieldmarks.cli.root import main
from fieldmarks.cli.store import store
from fieldmarks.cli.what_if import what_if

main.add_command(cache)
main.add_command(classify)
main.add_command(demo)
main.add_command(doctor)
main.add_command(embed)
main.add_command(evaluate)
main.add_command(generate)
main.add_command(learn)
main.add_command(prompts)
main.add_command(store)
main.add_command(what_if)

__all__ = ["main"]
