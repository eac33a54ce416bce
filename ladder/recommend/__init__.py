"""From labels to decisions: rungs to encode, what they save, which of two codecs is better."""
