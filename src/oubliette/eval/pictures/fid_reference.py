"""A FID against a folder of pictures, read some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from oubliette.core.errors import UserError
from oubliette.data.pictures import SUFFIXES
from oubliette.eval.judge import Judge
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.pictures.fid import Fid, fid, refusal
from oubliette.eval.pictures.fidelity import Extractor

_AT_ONCE = 64


def picture_files(folder: Path | str) -> list[Path]:
    """All pictures under a folder, in order; UserError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)})")
    return found


def read_picture(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W, 3) at its own size; UserError, naming the file, for what is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error})") from error


def batches_of(paths: Sequence[Path]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Indices and pictures (n, H, W, 3), in order, as many at once as are of one size (at most 64)."""
    held: list[np.ndarray] = []
    start = 0
    for index, path in enumerate(paths):
        picture = read_picture(path)
        if held and (picture.shape != held[0].shape or len(held) == _AT_ONCE):
            yield list(range(start, index)), np.stack(held)
            held, start = [], index
        held.append(picture)
    if held:
        yield list(range(start, len(paths))), np.stack(held)


def fid_against(
    folder: Path | str | None,
    extractor: Extractor | None,
    judges: Sequence[Judge],
    shown: Iterable[np.ndarray],
    n: int,
) -> tuple[Fid | None, list[str]]:
    """FID of the `n` pictures shown, batch after batch, against a folder's; or None and a note why not.

    Without an extractor the first CLIP judge's model is it. Without a folder there is neither FID nor note.
    Raises UserError where there is nothing to take features with.
    """
    if folder is None:
        return None, []
    files = picture_files(folder)
    why_not = refusal(n, len(files))
    if why_not is not None:
        return None, [why_not]
    chosen = extractor or next((judge.clip for judge in judges if isinstance(judge, ClipJudge)), None)
    if chosen is None:
        raise UserError("FID: no features to take it on; give a CLIP judge (clip:MODEL) or an extractor")
    own = np.concatenate([chosen.features(pictures) for pictures in shown])
    other = np.concatenate([chosen.features(pictures) for _, pictures in batches_of(files)])
    return fid(own, other, extractor=chosen.name), []
