"""One self-contained HTML page from one JSON truth."""
