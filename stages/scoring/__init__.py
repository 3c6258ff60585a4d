"""Scores with and without labels, and what people look at."""
