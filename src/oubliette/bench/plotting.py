"""What the benchmarks' pictures share: colours, a canvas without a screen, and a PNG with the same bytes each
time.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from oubliette.core.writing import write_bytes

__all__ = ["COLOURS", "GOLD", "canvas", "save"]

GOLD = "#b8860b"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#7a5195")


def canvas(rows: int, columns: int, *, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its panels [row][column], each `width` by `height` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Any, path: Path, *, colours: int | None = None) -> Path:
    """Write the figure as a PNG, atomically, in so many colours where given; returns the path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    if colours is not None:
        from PIL import Image

        full = Image.open(buffer).convert("RGB")
        buffer = io.BytesIO()
        full.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    write_bytes(path, buffer.getvalue())
    return path
