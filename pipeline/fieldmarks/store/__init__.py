"""Descriptor stores: JSONL files that people read, curate and share."""

from fieldmarks.store.jsonl import Store

__all__ = ["Store"]
