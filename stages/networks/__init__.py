"""Backbones, heads, the checkpoint form, and the three losses, one module each."""
