"""What a model is shown of a video: sampled frames, views of them, bitstream features."""
