"""A measurement from names to figures on disk: open, compare, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, refuse_existing
from oubliette.core.progress import progress

if TYPE_CHECKING:
    from oubliette.eval.result import Evaluation
    from oubliette.eval.sample_store import SampleStore

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """The figures, the page where one was asked for, and the exit code they mean."""

    evaluation: Evaluation
    page: Path | None
    exit_code: int


def measure(
    *named: Any,
    n: int = 50,
    steps: int = 25,
    guidance: float = 3.0,
    controls: Sequence[str] = (),
    out: Path | str | None = None,
    require_leakage: float | None = None,
    resume: bool = False,
    command: str | None = None,
    **more: Any,
) -> Measured:
    """Measure what leaks from a model and what it lost, showing progress, and write figures, samples and page
    to the folder `out`.

    `named` and `more` are the fields of a `Request`; `steps` and `guidance` are for models that draw. Without
    a cache what is made for `out` is kept beside it until the run has ended well, so that the same call goes
    on from there after a kill; with `resume` no other may. The exit code is 0, or with `require_leakage` 1
    where the verdict is negative and 3 where it cannot be told. Raises UserError for what cannot be measured,
    and where `out` is there.
    """
    from oubliette.backends import open_model
    from oubliette.backends.files.delta import recorded_base
    from oubliette.core.run_folder import content_hash
    from oubliette.data.csv import read_prompts
    from oubliette.data.text import warn_of_cut
    from oubliette.eval import evaluate as room
    from oubliette.eval.metric import METRICS
    from oubliette.eval.pictures.kept import pictures_kept
    from oubliette.eval.pictures.sampling import Sampling
    from oubliette.eval.rows import row_name
    from oubliette.eval.verdict import Bounds
    from oubliette.workflows.check import check_covering
    from oubliette.workflows.modality import modality_of
    from oubliette.workflows.request import Request

    asked = Request(*named, **more)
    if out is not None:
        refuse_existing(out)
    csv = asked.prompts_csv
    rows = [] if csv is None else read_prompts(csv)
    if require_leakage is not None and not 0 < require_leakage <= 1:
        raise UserError(f"--require-leakage must lie in 0..1 (0.1 is 10 %), found {require_leakage:g}")
    for spec in asked.metrics:
        METRICS.check(spec.partition(":")[0])
    opened = open_model(asked.model)
    warn_of_cut(opened, [row.prompt for row in rows], f"prompts of {csv}")
    before = open_model(asked.base if asked.base is not None else recorded_base(opened))
    evaluator = modality_of(opened).evaluator(asked, opened, before, Sampling(steps, guidance))
    if asked.judges:
        check_covering(evaluator.judges, evaluator.concepts)
    total = evaluator.plan(n=n, seed=asked.seed).pictures(1 + len(controls))
    identity: dict[str, Any] = {}
    if out is not None:  # large models take seconds to hash
        identity = {
            "concepts": [asdict(each) for each in evaluator.concepts],
            "model": opened.fingerprint(),
            "base": before.fingerprint(),
            "judges": [[judge.name, judge.fingerprint] for judge in evaluator.judges],
            "controls": list(controls),
            "prompts": None if csv is None else content_hash(Path(csv)),
            "sampling": {"n": n, "seed": asked.seed, **evaluator.settings()},
        }
    with pictures_kept(out, asked.cache, identity=identity, resume=resume) as store:
        with progress("asking and judging", total, evaluator.noun) as tick:
            evaluation = room.measure(
                {row_name(opened.source): opened},
                before,
                evaluator,
                n=n,
                seed=asked.seed,
                controls=controls,
                cache=store,
                bounds=None if require_leakage is None else Bounds(leakage=require_leakage),
                progress=lambda done, _, who: tick(done, who),
            )
        page = None if out is None else _write(evaluation, store, Path(out), opened.world, command)
    return Measured(evaluation, page, 0 if require_leakage is None else evaluation.exit_code)


def _write(
    evaluation: Evaluation, cache: SampleStore, out: Path, world: str | None, command: str | None
) -> Path:
    from oubliette.eval.grids import make_grids
    from oubliette.report.data import ReportData
    from oubliette.report.page import write_page

    with atomic_folder(out) as folder:
        evaluation.write(folder / "evaluation.json")
        evaluation.write_samples(folder / "samples.jsonl")
        names = ", ".join(figures.name for figures in evaluation.rows[0].concepts)
        write_page(
            ReportData(
                title=f"{names}: what is left",
                evaluation=evaluation,
                grids=make_grids(evaluation, cache),
                world=world,
                command=command,
            ),
            folder / "index.html",
        )
    return out / "index.html"
