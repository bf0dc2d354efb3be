"""Erasers for text-to-image diffusion models: one file a method."""
