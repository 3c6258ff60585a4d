"""What an image is here: the one stored form, where datasets come from, and the two ways of augmenting."""
