"""Measurements behind the project's choices. Nothing here is part of the pipeline."""
