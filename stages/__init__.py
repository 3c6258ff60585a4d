"""The steps of the pipeline, one module each, above the rooms they use."""
