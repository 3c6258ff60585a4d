"""The report: figures, and one page to look at and to name groups in."""
