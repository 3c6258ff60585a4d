"""Where datasets come from: one function a dataset, and a table of them by name."""
