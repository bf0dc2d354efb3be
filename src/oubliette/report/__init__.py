"""One self-contained HTML page from one JSON truth.

Imports audit's and eval's results and what lies below.
Begin at `data.py`, then `build.py` and `page.py`.
"""
