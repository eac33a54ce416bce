"""Video files: find, probe and decode them, read their headers, and run ffmpeg."""
