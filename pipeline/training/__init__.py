"""Train the demo's two models. This code is not part of the package or its wheel.

In a clone with the editable install, run `python -m training clip|lm --out DIR`; without the install, set
PYTHONPATH=pipeline. The shipped models are copies of such folders.
"""
