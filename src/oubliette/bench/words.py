"""How a benchmark's tables and files are written: Markdown, and names of cells."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NOTHING", "markdown", "slug"]

NOTHING = "–"
"""What stands where there is no figure."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def slug(*words: str) -> str:
    """Words as a file's name: "doco-sam-car-0"."""
    text = " ".join(words).lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text).split())
