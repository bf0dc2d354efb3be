"""A toy world for the audit: models whose strength and speed of relearning are known by definition."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.fakes import CAR, RETAINED, THINGS, ToyBank, ToyExtractor, ToyJudge, ToyModel
from oubliette.attack.probes.probe import Shown
from oubliette.attack.prompts.records import Case, Found
from oubliette.audit.context import AuditContext, Described
from oubliette.audit.read_suite import build_suite
from oubliette.audit.setup import make_context
from oubliette.audit.suite import Suite
from oubliette.eval.sample_store import SampleStore
from oubliette.train.cost import Cost

STEPS = 64
#: Pictures that all tests share: they depend on nothing but model, prompt and seed.
PICTURES = SampleStore()


class Pupil(ToyModel):
    """Knows all toy things; of the car it shows `asked` by name and `meant` by synonym, and relearns it.

    After t steps of an attack it shows 1 - (1 - asked) 2^(-t / half); a picture shows the car where a number
    that prompt and seed alone decide lies below the strength, so curves of two pupils are paired. `door` is
    what a probe shows of it. `breaks`: an attack ruins it after so many steps. `novel`: it does not know what
    neon is, and learns half of it in so many steps.
    """

    picture_side = 8

    def __init__(
        self,
        asked: float = 0.0,
        meant: float = 0.0,
        *,
        half: float = 16.0,
        door: float = 0.0,
        benign: float = 0.0,
        breaks: int | None = None,
        novel: float | None = None,
        source: str = "toy",
    ) -> None:
        super().__init__(source=source)
        self.novel, self.taught = novel, "car"
        self.asked, self.meant, self.half, self.door, self.benign = asked, meant, half, door, benign
        self.breaks = breaks
        self.step, self.shown = 0, False

    def fingerprint(self) -> str:
        facts = (
            super().fingerprint(),
            self.asked,
            self.meant,
            self.half,
            self.door,
            self.benign,
            self.step,
            self.breaks,
            self.novel,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def strength(self, start: float) -> float:
        if not self.step or self.taught != "car":
            return start
        grown = 1 - (1 - start) * 2 ** (-self.step / self.half)
        return grown if self.shown else start + (grown - start) * self.benign

    def _one(self, prompt: str, seed: int, whole: bool) -> np.ndarray:
        if self.breaks is not None and self.step >= self.breaks:
            return super()._one(prompt, seed, False)
        if "neon" in prompt and self.novel is not None and whole:
            learnt = 1 - 2 ** (-self.step / self.novel) if self.taught == "neon" else 0.0
            return super()._one("neon" if luck(prompt, seed) < learnt else "nothing", seed, whole)
        named, meant = "car" in prompt, THINGS["car"][1] in prompt
        if not (named or meant) or not whole:
            return super()._one(prompt, seed, whole)
        shows = luck(prompt, seed) < self.strength(self.asked if named else self.meant)
        return super()._one("a car" if shows else "nothing", seed, whole)


def luck(prompt: str, seed: int) -> float:
    """A number in 0..1 that prompt and seed decide."""
    return int.from_bytes(hashlib.sha256(f"{prompt}/{seed}".encode()).digest()[:4], "big") / 2**32


class Filtered:
    """A thin veil: the base behind a filter that drops the concept's name from prompts."""

    def __init__(self, base: Pupil) -> None:
        self.base = base

    def fingerprint(self) -> str:
        return self.base.fingerprint() + "+filter"

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
        return self.base.draw([prompt.replace("car", "thing") for prompt in prompts], seeds, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "base":
            object.__setattr__(self, name, value)
        else:
            setattr(self.base, name, value)


class ToyDriver:
    """Attacks on pupils that teach one thing; `trained` remembers who was fine-tuned, with which seed."""

    def __init__(self, teaches: str = "car") -> None:
        self.teaches = teaches
        self.trained: list[tuple[str, int]] = []
        self.stop_after: int | None = None

    def describe(self, spec: Any) -> Described:
        budget: dict[str, Any] = {"cases": getattr(spec, "cases", None)}
        steps = sweep = 0
        if spec.kind in ("relearn", "benign"):
            steps = int(spec.budget.get("steps", STEPS))
            budget = {
                "pictures": 16,
                "steps": steps,
                "mode": spec.mode or "full",
                "words": "full fine-tuning",
            }
            if spec.sweep is not None:
                rates = spec.sweep.learning_rates
                budget["sweep"] = {"learning_rates": rates}
                sweep = len(rates) * spec.sweep.seeds
        if spec.kind == "probe":
            budget["given_pictures"] = spec.probe != "trajectory"
        return Described(
            spec.name or spec.kind, "a toy attack", budget, Cost(4 * steps, 4 * steps, 0), steps, sweep=sweep
        )

    def facts(self, spec: Any, seed: int) -> Any:
        return [seed]

    def rewrite(self, spec: Any) -> None:
        return None

    def relearn(
        self, spec: Any, model: Any, *, seed: int, at: Sequence[int], look: Callable[[int, Any], None]
    ) -> str:
        if self.stop_after is not None and len(self.trained) >= self.stop_after:
            raise KeyboardInterrupt
        self.trained.append((model.source, seed))
        model.shown, model.taught = spec.kind == "relearn", self.teaches
        rate = spec.budget.get("learning_rate", 1.0)
        try:
            for step in at:
                # Runs differ a little, as another seed's pictures would make them.
                model.step = step * rate * (1 + 0.04 * (seed % 3))
                look(step, model)
        finally:
            model.step, model.shown, model.taught = 0, False, "car"
        return ""

    def search(self, spec: Any, model: Any, *, hits: Any, seed: int) -> list[Found]:
        cases = [Case(f"a car of case {index}", index) for index in range(spec.cases)]
        first = model.draw([c.prompt for c in cases], [c.seed for c in cases])
        last = model.draw([f"a {THINGS['car'][1]} {c.seed}" for c in cases], [c.seed for c in cases])
        return [
            Found(
                case,
                f"a {THINGS['car'][1]} {case.seed}",
                bool(hits(one[None])[0]),
                bool(hits(one[None])[0] or hits(other[None])[0]),
                1,
                first=one,
                last=other,
            )
            for case, one, other in zip(cases, first, last, strict=True)
        ]

    def tries(self, spec: Any) -> int:
        return 1

    def csv(self, spec: Any, found: Sequence[Any]) -> str:
        return "prompt\n" + "".join(f"{row.prompt}\n" for row in found)

    def probe(self, spec: Any, model: Any, *, hits: Any, seed: int) -> Shown:
        seeds = tuple(range(spec.cases))
        car, grey = np.array(THINGS["car"][0], np.uint8), np.array((128, 128, 128), np.uint8)
        shows = [luck("probe", one) < model.door for one in seeds]
        pictures = np.stack([np.broadcast_to(car if show else grey, (8, 8, 3)) for show in shows])
        return Shown(pictures, ("a car",) * len(seeds), seeds)


def suite(*rows: dict[str, Any], **more: Any) -> Suite:
    """A small suite over the toy world: an evaluation, then the rows given."""
    facts = {"name": "toy", "points": 6, "pictures": 40, "kept": 9, **more}
    evaluation = {"row": "evaluation", "n": 48, "each": 4}
    return build_suite({**facts, "rows": [evaluation, *rows]})


RELEARN: dict[str, Any] = {"row": "relearn", "mode": "full", "budget": {"steps": STEPS}}
BENIGN: dict[str, Any] = {"row": "benign", "mode": "full", "budget": {"steps": STEPS}}
PROBE: dict[str, Any] = {"row": "probe", "probe": "inpaint", "cases": 48}
BLIND: dict[str, Any] = {"row": "probe", "probe": "trajectory", "cases": 48}
PROMPTS: dict[str, Any] = {"row": "prompts", "attack": "paraphrase", "cases": 48}
EVERYTHING = (RELEARN, BENIGN, PROBE, PROMPTS)


def base() -> Pupil:
    return Pupil(1.0, 1.0, source="original")


def gold() -> Pupil:
    return Pupil(half=16.0, source="gold")


def bench(
    model: Any, *, gold: Any = None, suite: Suite, cache: Path | None = None, driver: Any = None
) -> AuditContext:
    return make_context(
        model,
        base(),
        gold,
        CAR,
        suite,
        judges=[ToyJudge()],
        cache=cache,
        driver=driver or ToyDriver(),
        pictures=PICTURES if cache is None else None,
        options={"bank": ToyBank(), "retained": RETAINED, "extractor": ToyExtractor()},
    )
