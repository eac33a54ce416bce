"""A model file -> scores: the file and its card, devices, the predictor, out of distribution."""
