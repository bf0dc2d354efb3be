"""Pictures of a run that was cut short, kept beside its output so that the same command goes on from them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oubliette.eval.pictures import PictureCache
from oubliette.writing import make_parents, remove_empty


@contextmanager
def pictures_kept(out: Path | str | None, cache: Path | str | None = None) -> Iterator[PictureCache]:
    """The picture cache of a run that writes to `out`: in the folder `cache` where the user gave one.

    Else it lies in `OUT.unfinished-pictures` beside the output, and goes when the block ends well; where it
    does not, the pictures stay (the folder goes where there are none). Without either it is in memory, and a
    run that is cut short begins anew. A picture's key is all that determines it, so that what another command
    left there does no harm.
    """
    if cache is not None or out is None:
        yield PictureCache(cache)
        return
    folder = Path(out).with_name(f"{Path(out).name}.unfinished-pictures")
    made = make_parents(out)
    store = PictureCache(folder)
    try:
        yield store
    except BaseException:
        if any(folder.rglob("*.png")):
            print(f"what was drawn lies in {folder}; the same command goes on from there", file=sys.stderr)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        remove_empty(made)
        raise
    shutil.rmtree(folder, ignore_errors=True)
