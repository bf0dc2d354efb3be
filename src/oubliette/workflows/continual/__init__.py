"""Requests erased one after another: reading them, running them, what they leave."""
