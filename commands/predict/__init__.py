"""The trained model on new image files."""
