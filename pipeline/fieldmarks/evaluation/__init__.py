"""Evaluation: does a store help on labelled pictures, is it more than chance, and which descriptors help."""
