"""Pictures as PNG bytes: without loss, and whole or known not to be."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["decode_png", "encode_png", "is_whole_png"]

_PNG = b"\x89PNG\r\n\x1a\n"


def encode_png(picture: np.ndarray) -> bytes:
    """A uint8 picture (H, W, 3) as PNG bytes; ValueError for any other array."""
    from PIL import Image

    if str(picture.dtype) != "uint8" or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"a picture must be uint8 (H, W, 3); found {picture.dtype} {picture.shape}")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(content: bytes) -> np.ndarray:
    """PNG bytes as a uint8 picture (H, W, 3)."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def is_whole_png(content: bytes) -> bool:
    """Whether PNG bytes are all there and match the checksum (CRC-32) that each of their chunks has."""
    at, kind = len(_PNG), b""
    if content[:at] != _PNG:
        return False
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            return False
        at = end
    return at == len(content) and kind == b"IEND"
