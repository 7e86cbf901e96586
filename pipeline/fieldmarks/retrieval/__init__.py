"""Retrieval from embedding sets: by texts, images, classes and descriptors, and for duplicates."""
