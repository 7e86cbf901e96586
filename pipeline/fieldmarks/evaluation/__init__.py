"""Evaluation: does a store help on labelled images, is it more than chance, and which descriptors help."""
