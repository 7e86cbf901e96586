"""Every error that fieldmarks raises on purpose.

    FieldmarksError            exit code 1, one line on stderr
    ├── UsageError             an argument or option that cannot be used, with what was expected
    ├── ClassNameError         a class name or class list that cannot be used
    ├── TableError             a list or table that cannot be read, or is not certain
    ├── StoreError             a store that cannot be read or written
    │   └── DamagedStoreError  bytes that are not a store's; names file and line
    ├── PromptError            a prompt template that cannot be found, parsed or rendered
    ├── GenerationError        descriptors could not be had
    │   └── EndpointError      an endpoint refused for good: wrong key, wrong model, unreachable
    ├── ModelError             a model folder or id that cannot be loaded
    ├── ImageError             an image that cannot be read
    ├── EvaluationError        a data set that cannot be read, or labels and classes that do not meet
    └── ReportError            a report that cannot be written

A message says where, what, and what to do. Wrong usage is exit code 2, whether the command line
finds it (click's own `UsageError`) or the library; an interruption exits with 130.
"""


class FieldmarksError(Exception):
    """Base of all errors of this package."""


class UsageError(FieldmarksError):
    """An argument cannot be used; the message names what was expected."""


class ClassNameError(FieldmarksError):
    """A class name or class list cannot be used."""


class TableError(FieldmarksError):
    """A list or table cannot be read, or how to read it is not certain."""


class StoreError(FieldmarksError):
    """A store cannot be read or written."""


class DamagedStoreError(StoreError):
    """A store holds bytes that are not a store's."""


class PromptError(FieldmarksError):
    """A prompt template cannot be found, parsed or rendered."""


class GenerationError(FieldmarksError):
    """Descriptors could not be had from a language model."""


class EndpointError(GenerationError):
    """An endpoint refused for good or cannot be reached."""


class ModelError(FieldmarksError):
    """A model cannot be loaded or does not fit its task."""


class ImageError(FieldmarksError):
    """An image cannot be read."""


class EvaluationError(FieldmarksError):
    """A data set cannot be read or does not fit the classes."""


class ReportError(FieldmarksError):
    """A report cannot be written."""
