"""From an evaluation, its picture cache and the runs' logs to the data of a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from oubliette.core.errors import UserError
from oubliette.eval.result import Evaluation
from oubliette.eval.rows import BASE
from oubliette.eval.sample_store import SampleStore
from oubliette.report.data import Curve, Grid, Line, Picture, Run

#: Headings of the grids by role and split, in their order on the page.
_GRIDS = (
    ("target", "in-set", "prompts of the kind the eraser was given"),
    ("target", "withheld", "withheld wordings and synonyms"),
    ("target", "csv", "prompts from the CSV"),
    ("retained", "in-set", "near neighbour, which must stay"),
)


def make_grids(
    evaluation: Evaluation, cache: SampleStore, *, columns: Sequence[str] | None = None, lines: int = 6
) -> list[Grid]:
    """Same-seed grids for every concept: its prompts, in-set and withheld, and its near neighbour's.

    `columns` are row names of the evaluation (default: the base, every model, gold where it is there);
    pictures are read from the cache, nothing is drawn. `lines` prompts a grid.
    """
    names = list(columns) if columns is not None else _default_columns(evaluation)
    samples = {
        (s["row"], s["role"], s["kind"], s["concept"], s["split"], index): s
        for (s, index) in _numbered(evaluation.samples)
    }
    grids = []
    for figures in evaluation.rows[0].concepts:
        for role, split, title in _GRIDS:
            concept = figures.name if role == "target" else figures.near
            picked = []
            for index in range(lines):
                found = [samples.get((name, role, figures.kind, concept, split, index)) for name in names]
                shown = [sample for sample in found if sample is not None]
                if len(shown) == len(names):
                    picked.append(_line(shown, figures.judge, cache))
            if picked:
                heading = title if role == "target" else f"{figures.near}: {title}"
                grids.append(Grid(figures.name, heading, names, picked, bad=role == "target"))
    return grids


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
) -> Run:
    """A run's entry on the page; `folder` is where its model was saved (None: only in memory)."""
    return Run(
        name=name,
        method=method,
        summary=summary,
        recipe=yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True),
        load=load_snippet(folder, form=form, prompt=prompt),
        seconds=dict(seconds or {}),
        facts=dict(facts or {}),
    )


def load_snippet(folder: Path | str | None, *, form: str = "full", prompt: str = "a picture") -> str:
    """Code that opens a saved model: diffusers alone for a full one, oubliette for a delta."""
    if folder is None:
        return "# this model was not saved; run the command again with --out FOLDER"
    if form == "full":
        return (
            "from diffusers import DiffusionPipeline\n\n"
            f'pipe = DiffusionPipeline.from_pretrained("{folder}")\n'
            f'picture = pipe("{prompt}", num_inference_steps=25).images[0]'
        )
    return (
        "import oubliette as ob\n\n"
        f'model = ob.load("{folder}")   # finds its base by the record beside it\n'
        f'model.draw(["{prompt}"], seeds=[0])'
    )


def _default_columns(evaluation: Evaluation) -> list[str]:
    names = [row.name for row in evaluation.rows]
    controls = [name for name in ("gold",) if name in names]
    return [*([BASE] if BASE in names else []), *(row.name for row in evaluation.models), *controls]


def _numbered(samples: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    counts: dict[tuple[Any, ...], int] = {}
    numbered = []
    for sample in samples:
        key = tuple(sample[part] for part in ("row", "role", "kind", "concept", "split"))
        numbered.append((sample, counts.get(key, 0)))
        counts[key] = counts.get(key, 0) + 1
    return numbered


def _line(samples: Sequence[Mapping[str, Any]], judge: str | None, cache: SampleStore) -> Line:
    pictures = cache.read([sample["picture"] for sample in samples])
    return Line(
        prompt=samples[0]["prompt"],
        seed=int(samples[0]["seed"]),
        pictures=[
            Picture.of(picture, sample["hits"].get(judge) if judge else None)
            for sample, picture in zip(samples, pictures, strict=True)
        ],
    )
