"""Learning a mask: the problem, the data's two sides, what fine-tuning moved."""
