"""The command line's commands: each parses, calls one workflow, prints.

Imports workflows, bench and what lies below, inside its functions, so that `--help` is light.
Begin at `app.py`, then `evaluate.py`, the shortest whole one.
"""
