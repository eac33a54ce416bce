"""Stage 3: labels -> splits by source, bitrate groups, batches, cached model inputs."""
