"""Scores against labels, k-means, names that people gave, and the tables of all that."""
