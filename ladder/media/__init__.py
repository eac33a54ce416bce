"""A video file: ffmpeg, probing, decoding of chosen frames, headers, discovery of files."""
