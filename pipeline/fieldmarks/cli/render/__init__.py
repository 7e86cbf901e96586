"""Terminal output: tables and sentences of at most 80 columns."""
