"""How a script becomes a stage: its command, params, outputs, errors, and what it says while it runs."""
