"""What is shown of a run: lines for the terminal and for programs, and a page to send to a colleague."""
