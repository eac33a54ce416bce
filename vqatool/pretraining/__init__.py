"""Pictures to learn from before videos: published sets, damage, full-reference labels."""
