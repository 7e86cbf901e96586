"""Descriptor stores: JSONL files that people read, curate and share."""

from fieldmarks.store.file import Store

__all__ = ["Store"]
