"""Stage 4, train: labelled encodes -> a model file."""
