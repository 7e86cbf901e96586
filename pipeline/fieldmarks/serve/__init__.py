"""One loaded classifier behind HTTP."""
