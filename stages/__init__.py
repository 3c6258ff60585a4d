"""The nine stages of dvc.yaml, a script each, above the rooms that they use."""
