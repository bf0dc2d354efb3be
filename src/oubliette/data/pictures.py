"""Pictures with captions from a folder (as `imagefolder` lays it out) or a parquet file, at the model's
side.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.core.errors import UserError
from oubliette.data.csv import read_table
from oubliette.data.jsonl import read_objects
from oubliette.data.text import check_text

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_METADATA = ("metadata.jsonl", "metadata.csv")
_CAPTIONS = ("text", "caption", "prompt", "label_name", "class_name", "label")
_IMAGES = ("image", "img", "picture")


@dataclass(frozen=True)
class PictureSet:
    """Pictures (n, side, side, 3) uint8 RGB, one caption each, and the (file or row, reason) of each
    skipped one.
    """

    pictures: np.ndarray
    captions: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class _Item:
    where: str
    caption: str
    read: Callable[[], bytes]


def read_pictures(
    path: Path | str,
    side: int,
    *,
    limit: int | None = None,
    on_skip: Callable[[str, str], None] | None = None,
) -> PictureSet:
    """Read pictures (the first `limit`) of a folder or parquet file, cut to squares of `side` pixels.

    In a folder, captions come from `metadata.jsonl` or `metadata.csv` (a `file_name` column and one of
    text, caption, prompt, label), else from the name of the subfolder a picture lies in, else they are
    empty. In parquet, an `image` column (bytes, or a struct with bytes as `datasets` writes) and a caption
    column; whole-number labels become their names where the file's own schema tells them. Broken pictures
    are skipped: `on_skip(where, reason)` is called for each, and they are listed in the result. Raises
    UserError where there is no picture at all.
    """
    path = Path(path)
    if side < 1:
        raise UserError(f"pictures must have a side of at least 1 pixel, found {side}")
    if not path.exists():
        raise UserError(f"{path}: no such folder or file of pictures")
    parquet = path.is_file() or bool(list(path.glob("*.parquet")))
    items = _from_parquet(path) if parquet else _from_folder(path)
    pictures: list[np.ndarray] = []
    captions: list[str] = []
    skipped: list[tuple[str, str]] = []
    for item in items:
        if limit is not None and len(pictures) >= limit:
            break
        try:
            pictures.append(decode(item.read(), side))
            captions.append(item.caption)
        except UserError as error:
            skipped.append((item.where, str(error)))
            if on_skip is not None:
                on_skip(item.where, str(error))
    if not pictures:
        found = (
            f"{len(skipped)} files, none readable ({skipped[0][0]}: {skipped[0][1]})" if skipped else "none"
        )
        raise UserError(f"{path}: expected pictures ({', '.join(SUFFIXES)}), found {found}")
    return PictureSet(np.stack(pictures), tuple(captions), tuple(skipped))


def decode(content: bytes, side: int) -> np.ndarray:
    """Encoded bytes to (side, side, 3) uint8: turned as its EXIF says, on white, centre square, Lanczos.

    Raises UserError, saying why, for what is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            upright = ImageOps.exif_transpose(opened)
            clear = upright.convert("RGBA") if upright.mode in ("RGBA", "LA", "PA", "P") else None
            if clear is not None:
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            fitted = ImageOps.fit(upright.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
            return np.asarray(fitted, dtype=np.uint8).copy()
    except UnidentifiedImageError as error:
        raise UserError("not a picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot be decoded ({error})") from error


def _from_folder(folder: Path) -> Iterator[_Item]:
    captions = _metadata(folder)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if captions is None:
            caption = path.parent.name.replace("_", " ") if path.parent != folder else ""
        elif name in captions:
            caption = captions.pop(name)
        else:
            continue  # a metadata file lists what belongs to the set
        yield _Item(name, caption, path.read_bytes)
    for name in sorted(captions or {}):
        yield _Item(name, "", _missing)


def _missing() -> bytes:
    raise UserError("is in the metadata but not in the folder")


def _metadata(folder: Path) -> dict[str, str] | None:
    """Captions by file name from the folder's metadata file, or None if it has none."""
    present = [folder / name for name in _METADATA if (folder / name).is_file()]
    if not present:
        return None
    path = present[0]
    rows: Iterable[tuple[str, Mapping[str, Any]]]
    if path.suffix == ".jsonl":
        rows = read_objects(path, "an object with 'file_name'")
    else:
        rows = read_table(path, ("file_name",))
    captions: dict[str, str] = {}
    for where, row in rows:
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"{where}: no 'file_name'; found {', '.join(map(str, row)) or 'nothing'}")
        column = next((key for key in _CAPTIONS if key in row), None)
        caption = "" if column is None else str(row[column] or "")
        captions[name] = check_text(caption, f"{where}: {column}", lines=True)
    return captions


def _from_parquet(path: Path) -> Iterator[_Item]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow; pip install 'oubliette[parquet]'") from error
    for file in [path] if path.is_file() else sorted(path.glob("*.parquet")):
        try:
            opened = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file}: not a readable parquet file ({str(error).splitlines()[0]})") from error
        names = opened.schema_arrow.names
        image = next((name for name in _IMAGES if name in names), None)
        caption = next((name for name in _CAPTIONS if name in names), None)
        if image is None:
            raise UserError(f"{file}: no column 'image'; found {', '.join(names)}")
        labels = _label_names(opened.schema_arrow.metadata, caption)
        columns = [image] if caption is None else [image, caption]
        number = 0
        for batch in opened.iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                value = "" if caption is None else row[caption]
                text = labels.get(value, str(value)) if isinstance(value, int) else str(value or "")
                yield _Item(f"{file.name}, row {number}", text, _cell(row[image]))
                number += 1


def _cell(value: Any) -> Callable[[], bytes]:
    """How to read a parquet cell: plain bytes, or a struct with bytes."""
    content = value.get("bytes") if isinstance(value, dict) else value

    def read() -> bytes:
        if not isinstance(content, bytes):
            raise UserError("the cell holds no picture bytes")
        return content

    return read


def _label_names(metadata: dict[bytes, bytes] | None, column: str | None) -> dict[int, str]:
    """Names of whole-number labels, as `datasets` writes them into the schema's metadata."""
    stored = (metadata or {}).get(b"huggingface")
    if stored is None or column is None:
        return {}
    try:
        names = json.loads(stored)["info"]["features"][column]["names"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}  # the metadata is another tool's, or says nothing of this column's names
    return {index: str(name).replace("_", " ") for index, name in enumerate(names)}
