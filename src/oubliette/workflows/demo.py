"""The main job on the embedded models: erase the default concepts, measure, write the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, refuse_existing
from oubliette.core.progress import progress

if TYPE_CHECKING:
    from oubliette.erase.result import EraseResult
    from oubliette.eval.result import Evaluation

__all__ = ["METHODS_SHOWN", "Demo", "demo", "free_folder"]

BASE = "nano"
#: What is shown where nothing else is asked for.
METHODS_SHOWN = ("uce", "mace")
#: Pictures a concept and split: the interval of one hit in 64 ends under 9 %, in 40 at 13 %, of none in 16 at
#: 20 %, so that a clean result can be called clean.
PICTURES = 64
#: Steps of a picture, as in the leaderboard: 64 of 15 steps cost what 40 of 25 do, two minutes on two cores.
STEPS = 15
TITLES = {"uce": "UCE", "mace": "MACE", "hirm": "HiRM", "doco": "DoCo", "ablation": "Concept Ablation"}


@dataclass(frozen=True)
class Demo:
    """Where the demo's page and models are, and what was found."""

    page: Path
    models: dict[str, Path]
    evaluation: Evaluation
    seconds: float

    def facts(self) -> dict[str, Any]:
        """The demo as plain data, as `--json` prints it."""
        from oubliette.workflows.erase import verdicts_of

        return {
            "report": str(self.page),
            "models": {title: str(path) for title, path in self.models.items()},
            "verdicts": verdicts_of(self.evaluation),
            "seconds": round(self.seconds, 1),
        }


def free_folder(path: Path | str) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that is free."""
    path = Path(path)
    for candidate in (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1000))):
        try:
            refuse_existing(candidate)
        except UserError:
            continue
        return candidate
    raise UserError(f"{path}: exists already, and so do its successors; name another output folder")


def demo(
    out: Path | str,
    seed: int = 0,
    methods: Sequence[str] = METHODS_SHOWN,
    *,
    n: int = PICTURES,
    each: int = 2,
    near_n: int = 6,
    steps: int = STEPS,
    controls: Sequence[str] = ("gold",),
    form: str = "full",
    cache: Path | str | None = None,
    overrides: Sequence[str] = (),
    command: str | None = None,
) -> Demo:
    """Erase the three default concepts jointly from nano with each method, and write models and report.

    `n` pictures a concept and split, `each` a retained concept, `near_n` a near neighbour, drawn in
    `steps`; `form` is how the models are saved; `cache` a folder for pictures (default: beside `out`);
    `overrides` go into every recipe.
    All of `out` appears at once, at the end. Raises UserError where `out` exists.
    """
    out = Path(out)
    refuse_existing(out)
    if not methods:
        raise UserError("demo: no method was given; `oubliette ls methods` has them")
    started = time.perf_counter()
    names = {TITLES.get(method, method): method for method in methods}
    with atomic_folder(out) as folder:
        results = {}
        for title, method in names.items():
            results[title] = _erase(method, seed, overrides)
            results[title].save(folder / method, form=form)
        pictures = Path(cache) if cache is not None else out.absolute().parent / "pictures"
        places = {title: out / method for title, method in names.items()}
        evaluation = _measure(
            results,
            folder,
            pictures,
            {title: places[title] for title in results},
            options={"n": n, "each": each, "near_n": near_n, "seed": seed, "controls": list(controls)},
            steps=steps,
            form=form,
            command=command,
        )
    return Demo(out / "report" / "index.html", places, evaluation, time.perf_counter() - started)


def _erase(method: str, seed: int, overrides: Sequence[str]) -> EraseResult:
    from oubliette.backends import open_model
    from oubliette.erase.run import erase
    from oubliette.workflows.compose import compose
    from oubliette.workflows.order import Order
    from oubliette.world import facts

    started = time.perf_counter()
    model = open_model(BASE)
    loaded = time.perf_counter() - started
    wanted = facts.DEFAULT_CONCEPTS
    order = Order(
        concept=[name for name, _, _ in wanted],
        anchor=[anchor for _, anchor, _ in wanted],
        kind=[kind for _, _, kind in wanted],
        method=method,
        seed=seed,
        overrides=overrides,
    )
    result = erase(model, compose(model, order))
    result.seconds["load"] = loaded
    return result


def _measure(
    results: dict[str, EraseResult],
    folder: Path,
    pictures: Path,
    places: dict[str, Path],
    *,
    options: dict[str, Any],
    steps: int,
    form: str,
    command: str | None,
) -> Evaluation:
    from oubliette.backends import open_model
    from oubliette.eval.evaluate import compare
    from oubliette.eval.grids import make_grids
    from oubliette.eval.pictures.evaluator import plan_for
    from oubliette.eval.pictures.sampling import Sampling
    from oubliette.eval.sample_store import SampleStore
    from oubliette.report.build import make_curves, make_run
    from oubliette.report.data import ReportData
    from oubliette.report.page import write_page
    from oubliette.workflows.erase import concepts_in

    base = open_model(BASE)
    concepts = concepts_in(next(iter(results.values())).recipe)
    cache = SampleStore(pictures)
    counted = {key: value for key, value in options.items() if key != "controls"}
    rows = len(results) + len(options["controls"])
    total = plan_for(base, concepts, **counted).pictures(rows)
    with progress("drawing and judging", total, "pictures") as tick:
        evaluation = compare(
            {title: result.model for title, result in results.items()},
            base,
            concepts,
            cache=cache,
            sampling=Sampling(steps=steps),
            progress=lambda done, _, who: tick(done, who),
            **options,
        )
    for result, row in zip(results.values(), evaluation.models, strict=True):
        result.seconds["evaluate"] = row.seconds
    data = ReportData(
        title="Three concepts erased from nano",
        evaluation=evaluation,
        grids=make_grids(evaluation, cache),
        curves=[curve for title, result in results.items() for curve in make_curves(result.log, title)],
        runs=[
            make_run(
                title,
                title,
                result.recipe.model_dump(mode="json"),
                places[title],
                summary=result.recipe.about,
                seconds=result.seconds,
                form=form,
                prompt="a picture of a car",
            )
            for title, result in results.items()
        ],
        world=base.world,
        command=command,
    )
    write_page(data, folder / "report" / "index.html")
    evaluation.write(folder / "report" / "evaluation.json")
    evaluation.write_samples(folder / "report" / "samples.jsonl")
    return evaluation
