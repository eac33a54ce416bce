"""Explanations of scores for people: curves over frames and attention maps."""
