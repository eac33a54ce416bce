"""What an evaluation is made of: figures and their intervals, baselines, pictures, words."""
