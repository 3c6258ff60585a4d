"""Presets: overlays of params.yaml, one a benchmark."""
