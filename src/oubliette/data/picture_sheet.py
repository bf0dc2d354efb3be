"""Pictures side by side in one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError
from oubliette.core.manifest import refuse_existing

if TYPE_CHECKING:
    import numpy as np

__all__ = ["check_target", "make_sheet", "write_sheet"]

_GAP = 2


def make_sheet(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures uint8 (n, H, W, 3), row by row in `columns`, on white: uint8 (H', W', 3)."""
    import numpy as np

    count, height, width, _ = pictures.shape
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + _GAP), (index % columns) * (width + _GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def check_target(path: Path | str) -> Path:
    """The path if a sheet can be written there; UserError if it exists or is no .png."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are written as PNG; give a name that ends in .png")
    refuse_existing(path)
    return path


def write_sheet(pictures: np.ndarray, path: Path | str, columns: int) -> Path:
    """Write the sheet as PNG, atomically, to a path that does not exist yet; returns it."""
    from oubliette.core.writing import parents, write_bytes
    from oubliette.data.png import encode_png

    path = check_target(path)
    with parents(path):
        write_bytes(path, encode_png(make_sheet(pictures, columns)))
    return path
