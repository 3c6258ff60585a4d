"""The training loop, its checkpoints, and the device it runs on."""
