"""Erasers of language models, one file a method."""
