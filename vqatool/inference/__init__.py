"""From a model file to predictions: the file and its card, the device, out of distribution."""
