"""Engines: the frameworks that can compute a CLIP-like model's two functions, behind one protocol."""
