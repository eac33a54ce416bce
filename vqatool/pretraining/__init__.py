"""Pre-training on pictures: published sets, and distorted pictures with full-reference labels."""
