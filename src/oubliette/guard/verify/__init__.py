"""Holding a finished model's files against a mask."""
