"""Views: a clip becomes a model's input, one paper's idea a file; none knows a model or a loss."""
