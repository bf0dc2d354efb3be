"""Attacks that train nothing: they ask whether the concept is still in the weights, by other doors."""
