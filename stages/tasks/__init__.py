"""What one batch of a training is: the pretext tasks, SCAN, self-labeling."""
