"""From observations to a row of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from oubliette.data.concept import Concept
from oubliette.data.wording import wording_of
from oubliette.eval.floor import ground_of
from oubliette.eval.judge import Judge, covering
from oubliette.eval.leakage import Leakage, leakage
from oubliette.eval.pictures.cmmd import cmmd
from oubliette.eval.pictures.fidelity import feature_distances, kid, paired_distance
from oubliette.eval.pictures.observe import Observation
from oubliette.eval.plan import IN_SET, Plan, PromptSet
from oubliette.eval.result import ClipFigures, ConceptFigures, Fidelity
from oubliette.eval.statistics import Rate, t_interval
from oubliette.eval.utility import Kept, Utility, utility
from oubliette.eval.verdict import Bounds, decide

Observations = Mapping[str, Observation]


def concept_figures(
    concept: Concept,
    plan: Plan,
    judges: Sequence[Judge],
    seen: Observations,
    base: Observations,
    *,
    bounds: Bounds,
    clip: str | None,
    gold: Observations | None = None,
    is_gold: bool = False,
    also_kept: Sequence[tuple[str, Kept]] = (),
) -> ConceptFigures:
    """All figures of one row on one concept.

    `seen` are the row's observations of the plan's shared sets, `base` the base's of all sets, `gold` those
    of a model that never knew the concept, which `is_gold` says the row is; `also_kept` is what else must be
    left for the row not to count as destroyed. The first judge that covers the
    concept decides; the others are reported beside it.
    """
    able = covering(judges, concept)
    targets = [item for item in plan.targets if item.concept == concept and len(item)]
    anchor = next((item for item in plan.anchors if item.concept == concept and len(item)), None)
    figures = [
        _leakage(item, anchor, judge, plan, seen, base, gold)
        for item in targets
        if anchor is not None or plan.absent_of(concept, item.split) is not None
        for judge in able
    ]
    judge = able[0].name if able and figures else None
    kept = None if judge is None else _utility(concept, plan, targets, judge, seen, base)
    return ConceptFigures(
        name=concept.name,
        anchor=concept.anchor,
        kind=concept.kind,
        near=plan.near.get(concept),
        judge=judge,
        leakage=figures,
        utility=kept,
        clip=[made for item in targets if clip and (made := _clip(item, clip, seen, base))],
        verdict=decide(
            [figure for figure in figures if figure.judge == judge],
            kept,
            bounds,
            gold=is_gold,
            words=wording_of(concept.kind),
            also_kept=also_kept,
        ),
    )


def fidelity_figures(plan: Plan, seen: Observations, base: Observations, extractor: str | None) -> Fidelity:
    """KID, CMMD, paired distance and prompt score over the retained sets, as many pictures a concept."""
    own = [seen[item.key] for item in plan.retained]
    distance = None
    pixels = [o.pixels[: plan.each] for o in own if o.pixels is not None]
    features = _stack(own, plan.each)
    reference = _stack([base[item.key] for item in plan.references], plan.each)
    if pixels:
        paired = _stack([base[item.key] for item in plan.retained], plan.each)
        apart = feature_distances(features, paired) if features is not None and paired is not None else None
        distance = paired_distance(np.concatenate(pixels), apart, extractor)
    scores = [o.score[: plan.each] for o in own if o.score is not None]
    score = t_interval(np.concatenate(scores)) if scores else None
    if features is None or reference is None or extractor is None:
        return Fidelity(kid=None, distance=distance, prompt_score=score)
    return Fidelity(
        kid=kid(features, reference, extractor=extractor),
        distance=distance,
        prompt_score=score,
        cmmd=cmmd(features, reference, extractor=extractor),
    )


def _leakage(
    item: PromptSet,
    anchor: PromptSet | None,
    judge: Judge,
    plan: Plan,
    seen: Observations,
    base: Observations,
    gold: Observations | None,
) -> Leakage:
    absent = plan.absent_of(item.concept, item.split)
    aside = None if anchor is None else base[anchor.key].hits[judge.name]
    ground = ground_of(
        None if absent is None else base[absent.key].hits[judge.name],
        None if gold is None else gold[item.key].hits[judge.name],
        aside,
        item.concept.kind,
        gold_alone=plan.gold_alone,
    )
    return leakage(
        seen[item.key].hits[judge.name],
        base[item.key].hits[judge.name],
        ground.hits,
        judge=judge.name,
        split=item.split,
        anchor=None if ground.hits is aside else aside,
        ground=ground.words,
        words=wording_of(item.concept.kind),
    )


def _utility(
    concept: Concept,
    plan: Plan,
    targets: Sequence[PromptSet],
    judge: str,
    seen: Observations,
    base: Observations,
) -> Utility:
    """UA is taken on the in-set prompts, or on the user's own where those took their place."""
    first = next((item for item in targets if item.split == IN_SET), targets[0])
    covered = [item for item in plan.retained if judge in seen[item.key].hits]
    return utility(
        concept,
        plan.near.get(concept),
        seen[first.key].hits[judge],
        {item.concept: seen[item.key].hits[judge] for item in covered},
        {item.concept: base[item.key].hits[judge] for item in covered},
        judge=judge,
        each=plan.each,
    )


def _clip(item: PromptSet, model: str, seen: Observations, base: Observations) -> ClipFigures | None:
    own, other = seen[item.key], base[item.key]
    if own.score is None or own.accuracy is None or own.best is None:
        return None
    if other.score is None or other.accuracy is None or other.best is None:
        return None
    return ClipFigures(
        model=model,
        split=item.split,
        score=t_interval(own.score),
        accuracy=Rate.mean(own.accuracy),
        zero_shot=Rate.mean(own.best),
        base_score=t_interval(other.score),
        base_accuracy=Rate.mean(other.accuracy),
        base_zero_shot=Rate.mean(other.best),
    )


def _stack(observations: Sequence[Observation], each: int) -> np.ndarray | None:
    parts = [o.features[:each] for o in observations if o.features is not None]
    return np.concatenate(parts) if parts else None
