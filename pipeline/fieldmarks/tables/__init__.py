"""Reads tables as people have them: class lists, imports, manifests and aliases.

    table = read_table("species.csv", MAX_LIST, ClassNameError)
    table.columns          # ("Common name", "Latin name")
    table.rows[0].cells    # ("Tree frog", "Hyla arborea")

A file's suffix and content together determine what it is: text with one of four delimiters, one name per
line, JSON, JSON lines or YAML, in UTF-8, UTF-16, UTF-32 or Windows-1252. Anything ambiguous is an error with
a remedy.
"""

from fieldmarks.tables.reading import errors_as, parse_table, read_table
from fieldmarks.tables.table import Row, Table

__all__ = ["Row", "Table", "errors_as", "parse_table", "read_table"]
