"""The main job on the embedded language model: forget some invented people, places and works, ask, write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, refuse_existing
from oubliette.core.progress import progress
from oubliette.workflows.demo import Demo, write_demo

__all__ = ["METHODS_SHOWN", "demo_text"]

BASE = "nano-lm"
#: What is shown where nothing else is asked for: one pushes answers down, one steers what is inside.
METHODS_SHOWN = ("npo", "rmu")
TITLES = {"npo": "NPO", "rmu": "RMU", "graddiff": "GradDiff", "simnpo": "SimNPO", "mrp": "MRP"}


def demo_text(
    out: Path | str,
    seed: int = 0,
    methods: Sequence[str] = METHODS_SHOWN,
    *,
    n: int = 64,
    controls: Sequence[str] = ("gold",),
    form: str = "full",
    facts: Path | str | None = None,
    overrides: Sequence[str] = (),
    command: str | None = None,
) -> Demo:
    """Erase the text world's default forget set from nano-lm with each method, and write models and report.

    `n` questions of each set and wording; `form` is how the models are saved; `facts` is the world's files
    (default: a folder of that name beside `out`, written where it is not there); `overrides` go into every
    recipe. All of `out` appears at once, at the end. Raises UserError where `out` exists.
    """
    from oubliette.backends import open_model
    from oubliette.data.questions import read_questions
    from oubliette.erase.run import erase
    from oubliette.eval.evaluate import measure
    from oubliette.eval.sample_store import SampleStore
    from oubliette.eval.text.answer_plan import AnswerSets
    from oubliette.eval.text.evaluator import AnswerEvaluator
    from oubliette.workflows.compose import compose
    from oubliette.workflows.order import Order
    from oubliette.workflows.world.text import write_text_world
    from oubliette.world.world import world_of

    out = Path(out)
    refuse_existing(out)
    if not methods:
        raise UserError("demo: no method was given; `oubliette ls methods` has them")
    started = time.perf_counter()
    data = Path(facts) if facts is not None else out.absolute().parent / "facts"
    if not data.is_dir():
        write_text_world(data)
    base = open_model(BASE)
    sets = {name: read_questions(data / f"{name}.jsonl") for name in ("forget", "retain", "skills")}
    evaluator = AnswerEvaluator(base, AnswerSets("default", sets["forget"], sets["retain"], sets["skills"]))
    with atomic_folder(out) as folder:
        results = {}
        for method in methods:
            model = open_model(BASE)
            order = Order(
                method=method,
                forget=data / "forget.jsonl",
                retain=data / "retain.jsonl",
                seed=seed,
                overrides=overrides,
            )
            result = results[TITLES.get(method, method)] = erase(model, compose(model, order))
            result.save(folder / method, form=form)
        cache = SampleStore()
        total = evaluator.plan(n=n, seed=seed).pictures(len(results) + len(controls))
        with progress("asking and judging", total, "answers") as tick:
            evaluation = measure(
                {title: result.model for title, result in results.items()},
                base,
                evaluator,
                n=n,
                seed=seed,
                # It never read of this forget set, which a set of a user's own does not tell.
                controls=[f"gold={world_of(base).gold}" if name == "gold" else name for name in controls],
                cache=cache,
                progress=lambda done, _, who: tick(done, who),
            )
        places = dict(zip(results, (out / method for method in methods), strict=True))
        write_demo(
            folder,
            evaluation,
            cache,
            results,
            places,
            title="Twelve people, places and works forgotten by nano-lm",
            prompt=sets["forget"][0].question,
            form=form,
            command=command,
        )
    return Demo(out / "report" / "index.html", places, evaluation, time.perf_counter() - started)
