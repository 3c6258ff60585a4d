"""Nearest neighbours among embeddings: exact, approximate, and of images that have copies."""
