"""Stage 5, score: videos -> one row each of a report, resumable, whatever the files hold."""
