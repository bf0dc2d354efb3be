"""Pictures of a run that was cut short, kept beside its output so that the same command goes on from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oubliette.core.manifest import refuse_existing
from oubliette.core.run_folder import check_identity, is_main, locked, note, remove
from oubliette.core.writing import make_parents, remove_empty, writing
from oubliette.eval.sample_store import SampleStore

_IDENTITY = "run.json"


@contextmanager
def pictures_kept(
    out: Path | str | None,
    cache: Path | str | None = None,
    *,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Iterator[SampleStore]:
    """The picture cache of a run that writes to `out`: in the folder `cache` where the user gave one.

    Else it lies in `OUT.unfinished-pictures` beside the output, and goes when the block ends well; where it
    does not, the pictures stay (the folder goes where there are none). Without either it is in memory, and a
    run that is cut short begins anew. A picture's key is all that determines it, so that what another command
    left there does no harm; with `resume` a run of another `identity` is refused all the same. One process at
    a time writes to an `out`: UserError names the one that does.
    """
    if out is None:
        yield SampleStore(cache)
        return
    folder = Path(out).with_name(f"{Path(out).name}.unfinished-pictures")
    if resume and is_main() and not folder.is_dir():
        note(f"{folder}: not there, so there is nothing to resume; the run starts")
    made = make_parents(out)
    with writing(folder):
        folder.mkdir(exist_ok=True)
    with locked(folder):
        refuse_existing(out)
        whose = folder / _IDENTITY
        if is_main() and not resume:
            whose.unlink(missing_ok=True)
        check_identity(whose, identity or {})
        store = SampleStore(folder if cache is None else cache)
        try:
            yield store
        except BaseException:
            if any(folder.rglob("*.png")):
                note(f"what was drawn lies in {folder}; the same command goes on from there")
                raise
            remove(folder)
            remove_empty(made)
            raise
        remove(folder)
