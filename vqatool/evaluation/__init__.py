"""Evaluation of models: metrics with intervals, baselines, plots, summaries, ablation studies."""
