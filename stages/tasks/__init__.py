"""Pretext tasks: what an encoder can learn from without labels."""
