"""The text world as files for erasers, attackers and measuring: `oubliette world text`."""

from __future__ import annotations

import json
from pathlib import Path

from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import atomic_folder, write_manifest
from oubliette.core.manifest import record as make_record
from oubliette.world.text.entities import SETS, make_world
from oubliette.world.text.rows import FILES, world_rows

__all__ = ["write_text_world"]


def write_text_world(out: Path | str, *, forget: str = "default", size: int = 120, seed: int = 0) -> Path:
    """Write the files of one forget set into a new folder, with a record of what each is for; returns it.

    The embedded models know the world of size 120 and seed 0. Raises UserError for an unknown forget set, a
    folder that is there, and a size below 30.
    """
    part = next((name for name in SETS if name == forget), None)
    if part is None:
        raise UserError(f"no forget set is called {forget!r}; {suggest(forget, SETS)}")
    made = world_rows(make_world(size, seed), part)
    with atomic_folder(out) as folder:
        for name, rows in made.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        rows_of = {name: {"rows": len(rows), "for": FILES[name]} for name, rows in made.items()}
        facts = {"world": "text", "forget": forget, "size": size, "seed": seed, "files": rows_of}
        write_manifest(folder, make_record(**facts))
    return Path(out)
