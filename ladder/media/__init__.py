"""A video file: find ffmpeg and run it, probe, decode chosen frames, read headers, discover files."""
