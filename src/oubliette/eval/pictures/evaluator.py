"""Measuring models that draw: a world's or a bank's prompts, judges that look at pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.csv import read_prompts
from oubliette.data.prompts import load_bank
from oubliette.data.text import refuse_cut, warn_of_cut
from oubliette.eval.judge import Judge, default_judges, open_judge
from oubliette.eval.meter import Reader
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.plan import Bank, Plan, make_plan
from oubliette.eval.surroundings import neighbours, rest_of_world, words_of
from oubliette.world.world import world_of

__all__ = ["PictureEvaluator", "plan_for"]


class PictureEvaluator:
    """An `oubliette.eval.evaluator.Evaluator` for models that draw.

    The options are those of `oubliette.eval.evaluate.compare`.
    """

    noun = "pictures"

    def __init__(
        self,
        base: Any,
        concepts: Sequence[Concept],
        *,
        judges: Sequence[Judge | str] | None = None,
        prompts_csv: Path | str | None = None,
        retained: Sequence[Concept] | None = None,
        near: Mapping[str, str] | None = None,
        bank: Bank | None = None,
        sampling: Sampling | None = None,
        extractor: Extractor | None = None,
    ) -> None:
        self.base, self.concepts = base, list(concepts)
        self.judges = _judges(judges, base)
        self.sampling, self.extractor = sampling or Sampling(), extractor
        self._prompts_csv = prompts_csv
        self._about: dict[str, Any] = {
            "prompts_csv": prompts_csv,
            "retained": retained,
            "near": near,
            "bank": bank,
        }

    def about(self, concepts: Sequence[Concept]) -> PictureEvaluator:
        """The same judges, bank and sampling for other concepts."""
        return PictureEvaluator(
            self.base,
            concepts,
            judges=self.judges,
            sampling=self.sampling,
            extractor=self.extractor,
            **self._about,
        )

    @property
    def words(self) -> list[str]:
        """The words for the concepts that the world or their names give."""
        return [word for concept in self.concepts for word in words_of(self.base, concept)]

    def plan(self, *, n: int, each: int | None = None, near_n: int | None = None, seed: int = 0) -> Plan:
        """Prompts and seeds, as `plan_for` has them."""
        return plan_for(self.base, self.concepts, n=n, each=each, near_n=near_n, seed=seed, **self._about)

    def meter(self, *, n: int, seed: int = 0, gold: bool = False) -> tuple[Reader | None, list[str]]:
        """None: what is read of pictures are the judges' words and `eval.pictures.observe`'s."""
        return None, []

    def settings(self) -> dict[str, Any]:
        """Steps, guidance, sampler and the name of the prompts' file."""
        csv = self._prompts_csv
        return {
            "steps": self.sampling.steps,
            "guidance": self.sampling.guidance,
            "sampler": str(getattr(self.base, "sampler", "ddim")),
            "prompts_csv": None if csv is None else Path(csv).name,
        }


def plan_for(
    base: Any,
    concepts: Sequence[Concept],
    *,
    n: int = 50,
    each: int | None = None,
    near_n: int | None = None,
    seed: int = 0,
    prompts_csv: Path | str | None = None,
    retained: Sequence[Concept] | None = None,
    near: Mapping[str, str] | None = None,
    bank: Bank | None = None,
) -> Plan:
    """What `compare` would draw with these options; `Plan.pictures` says how many, before anything is drawn.

    Raises UserError for what cannot be measured.
    """
    if not concepts:
        raise UserError("evaluate: no concept was given; name what was erased")
    if len(set(concepts)) != len(concepts):
        raise UserError("evaluate: a concept is named twice")
    if n < 1:
        raise UserError(f"evaluate: n must be at least 1 picture a concept; found {n}")
    for concept in concepts:
        refuse_cut(base, concept.name, "the concept")
    rows = None if prompts_csv is None else read_prompts(prompts_csv)
    warn_of_cut(base, [row.prompt for row in rows or ()], "prompts of the table")
    bank = bank or load_bank(world_of(base).bank)
    kept = rest_of_world(base, concepts) if retained is None else _others(retained, concepts)
    return make_plan(
        concepts,
        bank,
        kept,
        near=neighbours(base, concepts, kept, near),
        n=n,
        each=max(4, n // 8) if each is None else each,
        near_n=n // 2 if near_n is None else near_n,
        seed=seed,
        forbidden={concept: words_of(base, concept) for concept in concepts},
        rows=rows,
    )


def _judges(judges: Sequence[Judge | str] | None, base: Any) -> list[Judge]:
    if judges is None:
        return default_judges(base)
    return [open_judge(judge, base) if isinstance(judge, str) else judge for judge in judges]


def _others(retained: Iterable[Concept], concepts: Sequence[Concept]) -> list[Concept]:
    erased = {(concept.kind, concept.name) for concept in concepts}
    return [other for other in retained if (other.kind, other.name) not in erased]
