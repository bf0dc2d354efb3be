"""The cells of `real_lm.py`: a model made, asked, relearned, each once and kept in a folder."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oubliette.backends import open_model
from oubliette.bench.folder import seal, whole
from oubliette.core.errors import UserError
from oubliette.core.manifest import write_json
from oubliette.core.writing import write_bytes
from oubliette.data.questions import QA
from oubliette.eval.metric import Items, open_metric
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.text.decoding import Decoding
from oubliette.eval.text.subject import Subject
from oubliette.train.tasks.answering import Answering
from oubliette.train.tuning.budget import Budget
from oubliette.train.tuning.tune import tune
from oubliette.workflows.compose import compose
from oubliette.workflows.erase import run_job
from oubliette.workflows.order import Job, Order

#: The model's own turns without the sentence about itself that its template puts before each question: a
#: fourth of all tokens.
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: What a run's cells depend on besides their names.
SETTINGS = ("items", "pairs", "epochs", "steps", "batch", "rate", "precision", "seed")
TOKENS = 40
_RMU = [
    "method={name: rmu, layer: 10, adaptive: 3.0, tokens: answer}",
    "train.retain_weight=3.0",
    r"scope='re:\.(8|9|10)\.mlp\.down_proj\.weight$'",
]
#: Erasers: preset, smoother, what is put over the preset, the rate as a multiple of the fine-tuning's: a few
#: down-projections bear more than all weights. No value was tuned.
METHODS: dict[str, tuple[str, dict[str, Any] | None, list[str], float]] = {
    "graddiff": ("graddiff", None, [], 0.25),
    "npo": ("npo", None, [], 0.25),
    "npo+sam": ("npo", {"name": "sam", "rho": 0.01}, [], 0.25),
    "simnpo": ("simnpo", None, ["method.forget_weight=1.0"], 0.25),
    "rmu": ("rmu", None, _RMU, 2.5),
}
Sets = Mapping[str, Sequence[QA]]


class Cells:
    """The folder of a run: models in `models`, what was found of each in `cells`."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.out, self.started = asked, asked.out, time.monotonic()
        for name in ("cells", "data", "unfinished"):
            (self.out / name).mkdir(parents=True, exist_ok=True)
        facts = {"model": asked.model.name, **{name: getattr(asked, name) for name in SETTINGS}}
        place = self.out / "settings.json"
        if place.exists() and json.loads(place.read_text("utf-8")) != facts:
            raise UserError(f"{place}: was begun with other settings; name another --out, or these again")
        write_json(place, facts)

    # -- models
    def base(self) -> Path:
        """The model as it comes, saved once: a GGUF takes a minute to open."""

        def make(folder: Path) -> None:
            model: Any = open_model(self.asked.model)
            model.tokenizer.chat_template = TEMPLATE
            model.save(folder)

        return self._made("base", make)

    def taught(self, name: str, rows: Sequence[QA]) -> Path:
        """The base fine-tuned on the rows."""

        def make(folder: Path) -> None:
            model: Any = open_model(str(self.base()))
            budget = self._budget(self.asked.epochs, rows, self.asked.rate)
            place = self.out / "unfinished" / name
            data = Answering(model, rows)
            log = self.out / f"{name}.jsonl"
            tune(model, data, "full", budget, keep=True, checkpoint=place, log=log)
            model.save(folder)
            shutil.rmtree(place, ignore_errors=True)

        return self._made(name, make)

    def erased(self, name: str, method: str, start: Path, forget: Path, retain: Path) -> Path:
        """What an eraser made of the model in `start`."""
        preset, smoother, more, rate = METHODS[method]
        settings = {
            "batch": self.asked.batch,
            "accumulation": 1,
            "precision": self.asked.precision,
            "learning_rate": self.asked.rate * rate,
            "warm_up": min(2, self.asked.steps),
        }
        order = Order(
            method=preset,
            smoother=smoother,
            steps=self.asked.steps,
            seed=self.asked.seed,
            forget=forget,
            retain=retain,
            overrides=(*(f"train.{key}={value}" for key, value in settings.items()), *more),
        )

        def make(folder: Path) -> None:
            resume = folder.with_name(f"{folder.name}.unfinished").exists()
            job = Job(out=folder, check="off", resume=resume, show_progress=False)
            run_job(lambda model: compose(model, order), job, model=str(start))

        return self._made(name, make)

    # -- what is found of them
    def look(self, name: str, folder: Path, sets: Sets, metrics: Sequence[str]) -> None:
        """Ask the model in a folder, unless that was done."""
        if not whole(self.cell(name)):
            self._ask(name, open_model(str(folder)), sets, metrics)

    def relearn(
        self, name: str, folder: Path, shown: Sequence[QA], sets: Sets, metrics: Sequence[str]
    ) -> None:
        """Fine-tune the model in a folder on the rows shown, three epochs, and ask it then."""
        if whole(self.cell(name)):
            return
        model: Any = open_model(str(folder))
        budget = self._budget(3, shown, self.asked.rate / 2)
        tune(
            model,
            Answering(model, shown),
            "full",
            budget,
            at=[budget.steps],
            look=lambda step, now: self._ask(name, now, sets, metrics),
        )

    def cell(self, name: str) -> Path:
        """The file of what was found of a model."""
        return Path(self.out / "cells" / f"{name}.json")

    def written(self, name: str, rows: Sequence[QA]) -> Path:
        """A JSONL file of rows for an eraser to read."""
        path = Path(self.out / "data" / f"{name}.jsonl")
        lines = [json.dumps({"question": row.question, "answer": row.answer}) + "\n" for row in rows]
        write_bytes(path, "".join(lines).encode())
        return path

    def say(self, what: str) -> None:
        """A line of progress."""
        print(f"{(time.monotonic() - self.started) / 60:6.1f} min  {what}", file=sys.stderr, flush=True)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        folder = Path(self.out / "models" / name)
        if not folder.is_dir():
            make(folder)
            self.say(f"{name}: made")
        return folder

    def _budget(self, epochs: int, rows: Sequence[QA], rate: float) -> Budget:
        return Budget(
            pictures=len(rows),
            steps=max(1, epochs * len(rows) // self.asked.batch),
            batch=self.asked.batch,
            learning_rate=rate,
            schedule="linear",
            precision=self.asked.precision,
            seed=self.asked.seed,
        )

    def _ask(self, name: str, model: Any, sets: Sets, metrics: Sequence[str]) -> None:
        subject = Subject(CachedSampler(name, model, SampleStore(), Decoding(TOKENS)), sets)
        found = {spec: _plain(open_metric(spec).observe(subject)) for spec in metrics}
        firsts = {key: [row.question for row in rows[:2]] for key, rows in sets.items()}
        said = {key: dict(zip(some, subject.answers(some), strict=True)) for key, some in firsts.items()}
        write_json(self.cell(name), {"items": found, "said": said})
        seal(self.cell(name))
        self.say(f"{name}: asked")


def _plain(items: Mapping[str, Items]) -> dict[str, Any]:
    return {
        key: {"names": one.names, "values": one.values.tolist(), "chance": one.chance}
        for key, one in items.items()
    }
