"""How the embedded models were trained: one file a model, one command for all (`oubliette world train`).

Imports what workflows may; nobody imports it but that command.
Begin at `all.py`.
"""
