"""One reader of tables: class lists, imports, manifests and aliases as people have them.

    table = read_table("species.csv", MAX_LIST, ClassNameError)
    table.columns          # ("Common name", "Latin name")
    table.rows[0].cells    # ("Tree frog", "Hyla arborea")

A file's suffix and its content decide together what it is: text with one of four delimiters, one name a line,
JSON, JSON lines or YAML, in UTF-8, UTF-16 or Windows-1252. What is not certain is an error with the remedy.
"""

from fieldmarks.tables.reading import errors_as, parse_table, read_table
from fieldmarks.tables.table import Row, Table

__all__ = ["Row", "Table", "errors_as", "parse_table", "read_table"]
