"""Models: views become Quality; none knows where views come from or what a loss is."""
