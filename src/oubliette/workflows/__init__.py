"""The straight lines that commands run, from names to folders: the only floor that joins rooms.

Imports every room but bench, commands and api.
Begin at `erase.py`: `run_job`; `modality.py` tells models that draw from models that answer.
"""
