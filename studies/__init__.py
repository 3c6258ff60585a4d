"""Whole runs of the pipeline: over seeds, beside the paper, and on machines without DVC."""
