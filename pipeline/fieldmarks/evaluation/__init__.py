"""Evaluation: does a store help on labelled images, by more than chance, and which descriptors help?"""
