"""Guarding from names to folders: the guard room, put to work with data that users name."""
