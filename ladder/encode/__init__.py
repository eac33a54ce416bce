"""Stage 1, ladder: sources x rungs -> encodes, one row of `encodes.csv` for each."""
