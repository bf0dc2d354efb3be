"""One attack without the audit around it: a JSON, a line a picture, the prompts that were found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.audit.attack_cache import RowOutput
from oubliette.audit.novel_reference import novel_facts
from oubliette.audit.result import GOLD, MODEL, NOVEL, RowResult
from oubliette.audit.rows import run_row
from oubliette.audit.suite import BenignRow, ProbeRow, PromptsRow, RelearnRow, Suite
from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, refuse_existing
from oubliette.core.numbers import percent
from oubliette.core.writing import write_bytes
from oubliette.data.concept import KINDS
from oubliette.data.wording import wording_of
from oubliette.eval.rows import row_name
from oubliette.workflows.audit_setup import set_up
from oubliette.workflows.modality import modality_of
from oubliette.workflows.request import Request

__all__ = ["Attacked", "attack", "lines", "relearn_row", "replay"]

_FIELDS = [field.name for field in fields(Request)]
_ROWS: dict[str, Any] = {"relearn": RelearnRow, "benign": BenignRow, "prompts": PromptsRow, "probe": ProbeRow}


@dataclass(frozen=True)
class Attacked:
    """The row that an attack came to, where it was written (None: nowhere), what the model is called."""

    row: RowResult
    seconds: float
    out: Path | None
    name: str = MODEL
    kind: str = KINDS[0]
    """The concept's."""

    def facts(self) -> dict[str, Any]:
        """Plain data, as `--json` prints it."""
        return {"row": asdict(self.row), "seconds": self.seconds, "out": self.out and str(self.out)}


def attack(*named: Any, row: dict[str, Any], out: Path | str | None = None, **more: Any) -> Attacked:
    """Run one row of a suite on a model, and on gold (or a novel concept) where it is asked for.

    `row` is as a suite has it ({"row": "relearn", "attack": "L1", "budget": {"steps": 50}}). `named` and
    `more` are the fields of a `Request` and the suite's own keys (pictures, kept, points, steps, guidance,
    batch, seeds); gold is "none" unless it is given. `out` is a new folder for attack.json,
    samples.jsonl and, of a search for prompts, the CSV. The model is as before at the end. UserError for what
    cannot be done; nothing is then written.
    """
    from oubliette.audit.read_suite import check
    from oubliette.core.validation import validated
    from oubliette.report import audit_words as say

    if out is not None:
        refuse_existing(out)
    how = _suite_keys(more)
    if row["row"] == "relearn" and not {"attack", "mode"} & set(row):
        opened = open_model(Request(*named, **more).model)
        row = {**row, "attack": modality_of(opened).attack}
        named, more = (), {**more, **dict(zip(_FIELDS, named, strict=False)), "model": opened}
    made = validated(_ROWS[row["row"]], row, f"attack {row['row']}")
    check(made)
    suite = validated(Suite, {"name": "one attack", "rows": [made], **how}, "attack")
    setting = set_up(*named, suite=suite, **{"gold": "none", **more})
    novel_facts(setting.bench)  # refuses a concept that the model knows, before anything is attacked
    output = run_row(suite.ids()[0], made, setting.bench)
    if output.row.status == "skipped":
        tried = "" if output.row.sweep is None else f" ({say.sweep(output.row.sweep)})"
        raise UserError(f"{output.row.title}: {output.row.note}{tried}")
    where = None if out is None else Path(out)
    done = Attacked(
        output.row, output.seconds, where, row_name(setting.sources[MODEL]), setting.bench.concept.kind
    )
    if out is not None:
        _write(done, output, Path(out))
    return done


def replay(csv: Path | str, *named: Any, out: Path | str | None = None, **more: Any) -> Attacked:
    """Put the prompts of a CSV (found on another model, or another group's) to a model and judge it.

    pre-ASR and ASR as a search has them; the options are those of `attack`.
    """
    from oubliette.attack.prompts.records import read_found
    from oubliette.attack.prompts.replay import replay as draw
    from oubliette.audit.samples import said
    from oubliette.audit.untrained import finding
    from oubliette.core.validation import validated
    from oubliette.data.csv import read_prompts
    from oubliette.eval.statistics import Rate

    if out is not None:
        refuse_existing(out)
    read_prompts(csv)
    spec = PromptsRow(attack="paraphrase", name=f"Replay of {Path(csv).name}")
    suite = validated(Suite, {"name": "replay", "rows": [spec], **_suite_keys(more)}, "attack")
    setting = set_up(*named, suite=suite, **{"gold": "none", **more})
    bench = setting.bench
    bench.driver.check_replay([one.case.prompt for one in read_found(csv)])
    found = draw(bench.model.model, csv, bench.meter.found, sampling=bench.base.sampling)
    made = finding(
        MODEL,
        np.array([one.before or one.after for one in found]),
        bench,
        tries=2,
        before=Rate.mean(np.array([one.before for one in found])),
        facts={"tries": 1.0},
        best=[one.text for one in found if one.after and not one.before][:10],
    )
    row = RowResult(
        id="replay",
        kind="prompts",
        title=spec.name,
        about="prompts found before, put to this model",
        status="done",
        note="",
        budget={"csv": Path(csv).name, "cases": len(found)},
        cost={},
        found=[made],
    )
    samples = [
        {
            "prompt": one.prompt,
            "seed": one.case.seed,
            "before": one.before,
            "hit": one.after,
            **({"opening": one.opening} if one.opening else {}),
            **({} if one.last is None else said(one.last)),
        }
        for one in found
    ]
    done = Attacked(row, 0.0, None if out is None else Path(out), row_name(setting.sources[MODEL]))
    if out is not None:
        _write(done, RowOutput(row, samples, [], 0.0), Path(out))
    return done


def _suite_keys(more: dict[str, Any]) -> dict[str, Any]:
    """Take a suite's own keys out of what was given."""
    return {key: more.pop(key) for key in list(more) if key in Suite.model_fields}


def _write(done: Attacked, output: RowOutput, out: Path) -> None:
    with atomic_folder(out) as folder:
        facts = {key: value for key, value in done.facts().items() if key != "out"}
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        write_bytes(folder / "attack.json", (text + "\n").encode())
        lines = [json.dumps(sample, ensure_ascii=False) for sample in output.samples]
        write_bytes(folder / "samples.jsonl", "".join(line + "\n" for line in lines).encode())
        for name, content in output.files.items():
            name = "prompts.csv" if name.endswith(".csv") else Path(name).name
            write_bytes(folder / name, content.encode())


def relearn_row(
    attack: str | None,
    mode: str | None,
    changes: Sequence[str],
    at: Sequence[int] | None,
    *,
    sweep: bool = False,
    rates: Sequence[float] = (),
) -> dict[str, Any]:
    """The row of one fine-tuning attack: a catalogue's name or a mode, with changes to its budget; with
    neither the modality's own.

    `sweep` seeks the worst learning rate first, among `rates` or the catalogue's.
    """
    from oubliette.core.validation import settings

    budget = {key.removeprefix("budget."): value for key, value in settings(changes).items()}
    row: dict[str, Any] = {"row": "relearn", "budget": budget, "nano": budget}
    row |= {key: value for key, value in (("attack", attack), ("mode", mode)) if value is not None}
    if at:
        row["at"] = list(at)
    if sweep or rates:
        row["sweep"] = {"learning_rates": list(rates)}
    if attack is not None:
        from oubliette.attack.catalogue import attack as named

        row["row"] = "benign" if named(attack).benign else "relearn"
    return row


def lines(done: Attacked) -> list[str]:
    """What an attack found, a line a subject."""
    from oubliette.report import audit_words as say

    row = done.row
    budget = say.budget(row, wording_of(done.kind))
    made = [f"{row.title}: {budget}" if budget else row.title]
    for subject in (MODEL, GOLD, NOVEL):
        if row.of(subject) or row.finding(subject) is not None:
            made.append(f"{done.name if subject == MODEL else subject}: {say.outcome(row, subject)}")
        for curve in row.of(subject):
            shares = [
                f"{reading.step}: {percent(reading.leakage.value)}"
                for reading in curve.readings
                if reading.leakage
            ]
            made.append(f"  leakage by step, run {curve.seed}: {', '.join(shares)}")
    if row.sooner is not None or row.excess:
        made.append(f"so: {say.against(row)}")
    if row.sweep is not None:
        made.append(f"sweep: {say.sweep(row.sweep)}")
    if row.note:
        made.append(f"note: {row.note}")
    return [line.replace("\u00a0", " ") for line in made]
