"""What every room may use: errors, registries, validation, numbers, records, a run's folder.

Imports no other room.
Begin at `errors.py`, then `registry.py` and `run_folder.py`.
"""
