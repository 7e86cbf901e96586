"""Trains the demo's two models: `python -m training clip|lm --out DIR`."""
