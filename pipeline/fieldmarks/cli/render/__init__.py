"""What the commands print: tables and sentences of at most 80 columns."""
