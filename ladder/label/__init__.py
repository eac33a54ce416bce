"""Stage 2, label: encodes and their sources -> VMAF, one row of `labels.csv` each."""
