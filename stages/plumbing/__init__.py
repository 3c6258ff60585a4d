"""How a script becomes a stage: its command, params, outputs, tables, errors, and what it says while it runs."""
