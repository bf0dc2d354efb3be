"""MACE's harmonic means: one figure for erased, kept and generalised (Lu et al. 2024, arXiv:2403.06135)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.json_io import read_json
from oubliette.data.concept import Concept
from oubliette.data.words import pattern
from oubliette.eval.judge import Judge, default_judges, open_judge
from oubliette.eval.pictures.evaluator import plan_for
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.pictures.zero_shot import ZeroShotJudge, top_one
from oubliette.eval.plan import IN_SET, WITHHELD, PromptSet
from oubliette.eval.sample_store import Progress, SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.statistics import Estimate, Rate, propagate, t_interval
from oubliette.world.world import world_of

FORMAT = "oubliette-harmonic/1"
#: An accuracy is the share of pictures whose best class is the right one.
TOP_ONE = "top-1"
#: What MACE's released script reports in its place: the mean softmax probability of the right class. A trap:
#: it is no accuracy, it depends on the CLIP's temperature, and it moves where no answer changes.
PROBABILITY = "mean probability"


def harmonic_objects(erased: float, kept: float, synonyms: float) -> float:
    """H_o = 3 / (1 / (1 - Acc_e) + 1 / Acc_s + 1 / Acc_g'), Acc_g' = 1 - Acc_g; accuracies in 0..1.

    `erased` Acc_e on the erased concept, `kept` Acc_s on the others, `synonyms` Acc_g on synonyms of the
    erased one. Zero where one of the three terms is (the limit). Raises ValueError outside 0..1.
    """
    return _harmonic(1 - _share(erased), _share(kept), 1 - _share(synonyms))


def harmonic_pair(erased: float, kept: float) -> float:
    """H_c = 2 / (1 / (1 - Acc_e) + 1 / Acc_s): the form without synonyms (celebrities)."""
    return _harmonic(1 - _share(erased), _share(kept))


@dataclass(frozen=True)
class Harmonic:
    """A harmonic mean and the accuracies it was made of, by one judge.

    `form` is "H_o" where there were synonyms and "H_c" where there were none, `measure` "top-1" or "mean
    probability". Accuracies have Wilson intervals (probabilities t), the mean the one these make.
    """

    concept: str
    kind: str
    judge: str
    measure: str
    form: str
    value: Estimate
    erased: Estimate
    kept: Estimate
    synonyms: Estimate | None


@dataclass(frozen=True)
class HarmonicResult:
    """The harmonic means of one model on one concept, one for each judge and measure, and what was drawn."""

    model: str
    fingerprint: str
    figures: list[Harmonic]
    seed: int
    steps: int
    guidance: float
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it goes to JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> HarmonicResult:
        """The result that `to_dict` wrote; UserError for anything else."""
        text = json.dumps(content)
        return read_json(cls, text, what="harmonic mean", version=FORMAT, expected="what to_dict writes")


def harmonic_of(
    erased: Rate | Estimate, kept: Rate | Estimate, synonyms: Rate | Estimate | None = None
) -> tuple[str, Estimate]:
    """The form that fits, "H_o" or "H_c", and the mean with the interval that the parts' intervals make."""
    terms = [_rest(erased), kept, *([] if synonyms is None else [_rest(synonyms)])]
    return ("H_c" if synonyms is None else "H_o"), propagate(_harmonic, terms)


def harmonic(
    model: Any,
    concept: Concept,
    judges: Sequence[Judge | str] | None = None,
    *,
    n: int = 50,
    seed: int = 0,
    sampling: Sampling | None = None,
    cache: SampleStore | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> HarmonicResult:
    """MACE's harmonic mean of a model that a concept was erased from.

    Acc_e is taken on the concept's in-set prompts, Acc_s on those of the other concepts of its kind, Acc_g on
    the withheld prompts that use a synonym, where the concept has synonyms. Prompts and seeds are those of
    `compare` with the same `n`, `seed` and `options` (those of `plan_for`), so that its pictures are used
    again. A CLIP judge picks among the names of the kind, and gives the mean probability beside its accuracy.
    MACE's own accuracies are CLIP ViT-B/32's with "a photo of the X" over 200 pictures a class. Raises
    UserError where no judge covers the concept or nothing is kept beside it.
    """
    sampling = sampling or Sampling()
    plan = plan_for(model, [concept], n=n, seed=seed, **options)
    kept = [item for item in plan.retained if item.concept.kind == concept.kind]
    if not kept:
        raise UserError(
            f"harmonic mean: no other {concept.kind} than {concept.name!r} is known that should stay"
        )
    target = next(item for item in plan.targets if item.split == IN_SET)
    synonyms = _of_synonyms(model, concept, next(item for item in plan.targets if item.split == WITHHELD))
    opened = default_judges(model) if judges is None else [_open(judge, model) for judge in judges]
    able = [one for judge in opened if (one := top_one(judge, plan.names)).covers(concept)]
    if not able:
        raise UserError(
            f"harmonic mean: no judge covers the {concept.kind} {concept.name!r} (judges: "
            f"{', '.join(judge.name for judge in opened) or 'none'}); name one that does (--judge)"
        )
    painter = CachedSampler("model", model, SampleStore() if cache is None else cache, sampling)
    sets = [target, *kept, *([] if synonyms is None else [synonyms])]
    prompts = [prompt for item in sets for prompt in item.prompts]
    painter.fill(prompts, [seed for item in sets for seed in item.seeds], progress=progress)
    figures = []
    for judge in able:
        for measure in (TOP_ONE, PROBABILITY) if isinstance(judge, ZeroShotJudge) else (TOP_ONE,):
            erased = _accuracy(judge, measure, painter, [target], None)
            others = _accuracy(judge, measure, painter, kept, plan.each)
            same = None if synonyms is None else _accuracy(judge, measure, painter, [synonyms], None)
            form, value = harmonic_of(erased, others, same)
            named = (concept.name, concept.kind, judge.name, measure, form)
            figures.append(Harmonic(*named, value=value, erased=erased, kept=others, synonyms=same))
    return HarmonicResult(
        str(model.source), painter.fingerprint, figures, seed, sampling.steps, sampling.guidance
    )


def _accuracy(
    judge: Judge, measure: str, painter: CachedSampler, sets: Sequence[PromptSet], each: int | None
) -> Estimate:
    """The judge's accuracy on sets of prompts, the first `each` of a set (None: all)."""
    found = []
    for item in sets:
        if not judge.covers(item.concept):
            raise UserError(
                f"harmonic mean: {judge.name} does not know the {item.concept.kind} {item.concept.name!r}"
            )
        pictures = painter.recall(item.prompts[:each], item.seeds[:each])
        if measure == PROBABILITY and isinstance(judge, ZeroShotJudge):
            found.append(judge.probabilities(pictures, item.concept))
        else:
            found.append(judge.hits(pictures, item.concept))
    values = np.concatenate(found)
    if measure == TOP_ONE:
        rate = Rate.mean(values)
        return Estimate(rate.value, rate.low, rate.high, rate.n)
    mean = t_interval(values)
    ends = [None if end is None else min(1.0, max(0.0, end)) for end in (mean.low, mean.high)]
    return Estimate(min(1.0, mean.value), ends[0], ends[1], mean.n)


def _of_synonyms(model: Any, concept: Concept, withheld: PromptSet) -> PromptSet | None:
    """The withheld prompts that use a synonym; None where the concept has none."""
    words = [*concept.synonyms, *world_of(model).fact(concept.kind, concept.name).withheld]
    named = pattern(words)
    rows = [row for row in zip(withheld.prompts, withheld.seeds, strict=True) if named.search(row[0])]
    if not words or not rows:
        return None
    prompts, seeds = zip(*rows, strict=True)
    return PromptSet(withheld.role, withheld.concept, withheld.split, prompts, seeds)


def _open(judge: Judge | str, model: Any) -> Judge:
    return open_judge(judge, model) if isinstance(judge, str) else judge


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"an accuracy lies in 0..1; found {value:g}")
    return value


def _rest(share: Rate | Estimate) -> Estimate:
    """One less the share."""
    ends = [None if end is None else 1 - end for end in (share.high, share.low)]
    return Estimate(1 - share.value, ends[0], ends[1], share.n)


def _harmonic(*terms: float) -> float:
    return 0.0 if min(terms) <= 0 else len(terms) / sum(1 / term for term in terms)
