"""What is minimised, one loss a file, named as in the literature."""
