"""Backbones, encoder, classifier, their one form on disk, and weights and vectors from elsewhere."""
