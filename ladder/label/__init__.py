"""Stage 2, label: encodes against their sources -> VMAF, one row of `labels.csv` each."""
