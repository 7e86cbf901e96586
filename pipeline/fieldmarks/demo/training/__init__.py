"""Trains the demo's two models: `python -m fieldmarks.demo.training clip|lm --out DIR`."""
