"""One training in progress: its batches, steps, validations, and what it leaves behind."""
