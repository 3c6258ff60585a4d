"""Whole runs of the pipeline, compared: over seeds, with the literature, and in slices of time."""
