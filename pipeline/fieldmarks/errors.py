"""Every error that fieldmarks raises on purpose.

    FieldmarksError            exit code 1, one line on stderr
    ├── UsageError             an argument or option that cannot be used, with what was expected
    ├── ClassNameError         a class name or class list that cannot be used
    ├── TableError             a list or table that cannot be read, or is ambiguous
    ├── StoreError             a store that cannot be read or written
    │   └── DamagedStoreError  a damaged line; names file and line
    ├── PromptError            a prompt template that cannot be found, parsed or rendered
    ├── GenerationError        a language model gave no descriptors
    │   └── EndpointError      an endpoint that refuses or cannot be reached: wrong key, wrong model
    ├── ModelError             a model folder or id that cannot be loaded
    ├── ImageError             an image that cannot be read
    ├── EvaluationError        a data set that cannot be read, or labels that do not match the classes
    ├── ReportError            a report that cannot be written
    └── ClusterError           a cluster that cannot be reached, or whose workers differ

A message says what happened, where, and what to do. Wrong usage exits with code 2, whether the command line
(click's own `UsageError`) or the library detects it.
"""


class FieldmarksError(Exception):
    """Base of all errors of this package."""


class UsageError(FieldmarksError):
    """An argument cannot be used; the message names what was expected."""


class ClassNameError(FieldmarksError):
    """A class name or class list cannot be used."""


class TableError(FieldmarksError):
    """A list or table cannot be read, or is ambiguous."""


class StoreError(FieldmarksError):
    """A store cannot be read or written."""


class DamagedStoreError(StoreError):
    """A store has a damaged line; the message names file and line."""


class PromptError(FieldmarksError):
    """A prompt template cannot be found, parsed or rendered."""


class GenerationError(FieldmarksError):
    """A language model gave no descriptors."""


class EndpointError(GenerationError):
    """An endpoint refuses requests or cannot be reached; trying again would not help."""


class ModelError(FieldmarksError):
    """A model cannot be loaded, or is not of the required kind."""


class ImageError(FieldmarksError):
    """An image cannot be read."""


class EvaluationError(FieldmarksError):
    """A data set cannot be read, or its labels do not match the classes."""


class ReportError(FieldmarksError):
    """A report cannot be written."""


class ClusterError(FieldmarksError):
    """A cluster cannot be reached, or its workers differ."""
