"""From an evaluation, its picture cache and the runs' logs to the data of a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from oubliette.core.errors import UserError
from oubliette.report.data import Curve, Run


def read_curves(path: Path | str, run: str) -> list[Curve]:
    """Loss curves from a run's JSONL log; UserError with the line number for a line that is no JSON."""
    records = []
    for number, text in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        try:
            records.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON ({error.msg})") from error
    return make_curves(records, run)


def make_curves(records: Sequence[Mapping[str, Any]], run: str) -> list[Curve]:
    """One curve per role from a loop's records, each with `step` and `loss` by role; a loss that is null is
    left out.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for role, value in record.get("loss", {}).items():
            if value is not None and math.isfinite(value):
                points.setdefault(role, []).append((int(record["step"]), float(value)))
    return [
        Curve(run, role, [step for step, _ in found], [value for _, value in found])
        for role, found in points.items()
    ]


def make_run(
    name: str,
    method: str,
    recipe: Mapping[str, Any],
    folder: Path | str | None,
    *,
    summary: str = "",
    seconds: Mapping[str, float] | None = None,
    facts: Mapping[str, str] | None = None,
    form: str = "full",
    prompt: str = "a picture",
    noun: str = "pictures",
) -> Run:
    """A run's entry on the page; `folder` is where its model was saved (None: only in memory), `noun` what it
    makes ("answers").
    """
    return Run(
        name=name,
        method=method,
        summary=summary,
        recipe=yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True),
        load=load_snippet(folder, form=form, prompt=prompt, noun=noun),
        seconds=dict(seconds or {}),
        facts=dict(facts or {}),
    )


_FULL = {
    "pictures": (
        "from diffusers import DiffusionPipeline\n\n"
        'pipe = DiffusionPipeline.from_pretrained("{folder}")\n'
        'picture = pipe("{prompt}", num_inference_steps=25).images[0]'
    ),
    "answers": (
        "from transformers import pipeline\n\n"
        'answer = pipeline("text-generation", "{folder}")\n'
        'print(answer("a question", max_new_tokens=32))'
    ),
}
_ASKED = {"pictures": 'model.draw(["{prompt}"], seeds=[0])', "answers": 'model.respond(["a question"])'}


def load_snippet(
    folder: Path | str | None, *, form: str = "full", prompt: str = "a picture", noun: str = "pictures"
) -> str:
    """Code that opens a saved model: diffusers (transformers) alone for a full one, oubliette for a delta."""
    if folder is None:
        return "# this model was not saved; run the command again with --out FOLDER"
    if form == "full":
        return _FULL[noun].format(folder=folder, prompt=prompt)
    return (
        "import oubliette as ob\n\n"
        f'model = ob.load("{folder}")   # finds its base by the record beside it\n'
        + _ASKED[noun].format(prompt=prompt)
    )
