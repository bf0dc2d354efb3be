"""Records as files for streams, training and measuring: `oubliette world records`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from oubliette.core.manifest import atomic_folder, write_manifest
from oubliette.core.manifest import record as make_record
from oubliette.world.records.records import Record, make_records

__all__ = ["FILES", "write_records"]

#: What each file is for.
FILES = {
    "forget": "for streams: a request a line, its text with the question that is asked afterwards",
    "retain": "what must stay, in the same form",
    "forget_text": "the texts of the requests alone, as training sees them",
    "retain_text": "the texts of what must stay alone: for --retain",
    "forget_questions": "the questions of the requests, copies left out",
    "retain_questions": "the questions of what must stay",
}


def write_records(
    out: Path | str, *, forget: int = 60, retain: int = 60, duplicates: int = 0, seed: int = 0
) -> Path:
    """Write both halves into a new folder, with a record of what each file is for; returns it.

    UserError for a folder that is there, and for numbers that `make_records` refuses.
    """
    made = make_records(forget, retain, duplicates, seed)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, records in (("forget", made.forget), ("retain", made.retain)):
        rows[name] = [record.row() for record in records]
        rows[f"{name}_text"] = [{"id": record.id, "text": record.text} for record in records]
        rows[f"{name}_questions"] = [_asked(record) for record in records if record.of == record.id]
    with atomic_folder(out) as folder:
        for name in FILES:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[name])
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        facts = {name: {"rows": len(rows[name]), "for": FILES[name]} for name in FILES}
        kinds = Counter(record.kind for record in (*made.forget, *made.retain))
        asked = {"forget": forget, "retain": retain, "duplicates": duplicates, "seed": seed}
        write_manifest(folder, make_record(records=asked, kinds=dict(kinds), files=facts))
    return Path(out)


def _asked(record: Record) -> dict[str, str]:
    return {"id": record.id, "question": record.question, "answer": record.answer}
