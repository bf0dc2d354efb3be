"""Holding a training run to a mask."""
