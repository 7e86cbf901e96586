"""Trains the demo's two models. It lies outside the package and its wheel.

In a clone, from the editable install: `python -m training clip|lm --out DIR`; without it, with
PYTHONPATH=pipeline. The shipped models are copies of such folders.
"""
