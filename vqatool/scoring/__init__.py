"""Score videos: one row of a report for each, also for a bad file; a run can be resumed."""
