"""From a suite's row to the attack it asks for, said in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oubliette.attack import PROBES, PROMPT_ATTACKS
from oubliette.attack.catalogue import Attack, attack, catalogue, make_attack
from oubliette.attack.probes.weights import WeightProbe
from oubliette.attack.prompts import build
from oubliette.attack.types import ANSWERS, ANY, How
from oubliette.attack.types import PICTURES as PICTURES_MADE
from oubliette.audit.context import Described
from oubliette.audit.suite import EvaluationRow, ProbeRow, PromptsRow, RelearnRow
from oubliette.audit.sweeping import rates_of
from oubliette.core.errors import UserError
from oubliette.data.wording import PICTURES, Wording
from oubliette.train.cost import Cost
from oubliette.world.world import OPEN, World

__all__ = ["changes_weights", "describe", "make_probe", "make_search", "resolve"]

#: What a mode is called in a sentence.
_WORDS = {
    "full": "full fine-tuning",
    "xattn": "fine-tuning of the cross-attention",
    "xattn-kv": "fine-tuning of the cross-attention's keys and values",
    "text-encoder": "fine-tuning of the text encoder",
    "lora": "LoRA",
    "textual-inversion": "textual inversion",
}
_MAKERS = {PICTURES_MADE: "draws", ANSWERS: "answers"}


def resolve(spec: RelearnRow, world: World = OPEN) -> Attack:
    """The attack that a row asks for, said in full.

    For a model of a world with an overlay the catalogue's entry of that ending is taken where there is one
    ("L1-nano"), and the row's `nano` goes over its budget in the place of `budget`. UserError for what is
    unknown, and for zeros.
    """
    small = world.overlay is not None
    if spec.attack is None:
        facts = {"mode": spec.mode, "budget": {**spec.budget, **(spec.nano if small else {})}}
        more = {"data": spec.data} if spec.data is not None else {}
        default = {"data": "benign"} if spec.kind == "benign" else {}
        name = spec.name or str(spec.mode)
        return make_attack(name, {**default, **facts, **more, "options": spec.options})
    entry = f"{spec.attack}-{world.overlay}"
    found = attack(entry if entry in catalogue() else spec.attack)
    changes = spec.nano if small else spec.budget
    if changes:
        found = found.changed(**changes)
    fields = {"mode": spec.mode, "data": spec.data, "options": {**found.options, **spec.options}}
    given = {key: value for key, value in fields.items() if value is not None}
    return make_attack(found.name, {**found.model_dump(exclude={"name"}), **given})


def make_probe(spec: ProbeRow) -> Any:
    """The probe that a row asks for; UserError for an unknown one or an unknown option."""
    from oubliette.core.validation import validated

    kind = PROBES.get(spec.probe)
    return kind(validated(kind.Options, spec.options, f"probe '{spec.probe}'"))


def changes_weights(spec: Any) -> bool:
    """Whether a row is a probe that changes weights, which every model has, and asks as before."""
    return isinstance(spec, ProbeRow) and issubclass(PROBES.get(spec.probe), WeightProbe)


def make_search(spec: PromptsRow, world: World = OPEN) -> Any:
    """The prompt attack that a row asks for, at the preset of the world's overlay where it has one."""
    own = world.overlay if world.overlay in PROMPT_ATTACKS.get(spec.attack).presets else None
    return build(spec.attack, spec.options, preset=own or "published")


def describe(
    spec: Any,
    world: World,
    sampling: How,
    *,
    frozen: int,
    given: bool,
    attached: bool = False,
    wording: Wording = PICTURES,
) -> Described:
    """Title, line, budget and cost of a row on one subject, without what it takes to look.

    `frozen` tensors may not move; `given`: the auditor has pictures of the concept, so none need be drawn;
    `attached`: something goes with the model that is not its weights; `wording` is that of what is looked at.
    """
    if isinstance(spec, EvaluationRow):
        budget = spec.model_dump(exclude={"row", "name", "gold"}, exclude_none=True)
        return Described(spec.name or "Prompts alone", wording.untouched, budget, Cost())
    if isinstance(spec, PromptsRow):
        return _describe_search(spec, world, sampling, wording)
    if isinstance(spec, ProbeRow):
        return _describe_probe(spec, sampling, given, attached, wording)
    found = resolve(spec, world)
    if spec.at is not None and spec.at[-1] > found.budget.steps:
        raise UserError(
            f"row '{spec.name or found.name}': looks at step {spec.at[-1]}, and its budget has "
            f"{found.budget.steps}"
        )
    what = _WORDS.get(found.mode, f"fine-tuning of {found.mode}")
    words = f"DreamBooth ({what})" if found.identifier else what
    budget = {
        "attack": found.name,
        "mode": found.mode,
        "words": words,
        "data": found.data,
        "source": found.source,
        **found.budget.model_dump(),
        **({"prior_pictures": found.prior_pictures} if found.prior_pictures else {}),
        **({"options": found.options} if found.options else {}),
        "frozen": frozen,
    }
    shown = "" if not found.benign else f", {found.data}"
    masked = ", masked" if found.masked else ""
    title = f"{_upper(words)}{shown}, {found.budget.pictures} {wording.item}s{masked}"
    sweep = 0
    if spec.sweep is not None:
        rates = _swept_rates(spec, found)
        tries = spec.sweep.tries(rates)
        sweep = tries * spec.sweep.seeds
        budget["sweep"] = {**spec.sweep.model_dump(exclude_none=True), "learning_rates": rates}
        title += f", worst of {tries} learning rates"
    moot = found.samples not in (None, wording.samples)
    skip = _not_for_it(found, wording) if moot else ""
    if found.masked and not frozen and not moot:
        skip = "it honours a mask and means nothing without one; give one with --mask"
    return Described(
        spec.name or title, found.about, budget, found.cost(), found.budget.steps, skip, sweep, moot
    )


def _not_for_it(found: Attack, wording: Wording) -> str:
    """That an attack is for models that make other samples, and which ones are for these."""
    samples = wording.samples
    able = ", ".join(name for name, one in catalogue().items() if one.samples == samples and "-" not in name)
    return f"not applicable: {found.name} is for {found.samples}; for {samples} there are {able}"


def _swept_rates(spec: RelearnRow, found: Attack) -> list[float]:
    """A sweep's learning rates; UserError where there are none, or where optuna is wanted and not there."""
    from oubliette.attack.sweep import need_optuna

    assert spec.sweep is not None
    if spec.sweep.search == "optuna":
        need_optuna()
    try:
        return rates_of(spec, found)
    except UserError as error:
        raise UserError(f"row '{spec.name or found.name}': {error}") from None


def _describe_search(spec: PromptsRow, world: World, sampling: How, wording: Wording) -> Described:
    made = make_search(spec, world)
    if (other := _other_models(spec, made, wording)) is not None:
        return other
    if spec.rows is not None and made.samples != ANSWERS:
        raise UserError(f"row '{spec.name or spec.attack}': 'rows' are questions, for models that answer")
    budget = {"attack": spec.attack, "cases": spec.cases, "tries": made.tries()}
    budget |= {"options": made.options.model_dump(), "paper": made.paper}
    budget |= {} if spec.rows is None else {"rows": Path(spec.rows).name}
    budget |= _learning(made)
    return Described(
        spec.name or f"Prompts: {spec.attack}", made.about, budget, made.cost(spec.cases, sampling)
    )


def _learning(made: Any) -> dict[str, Any]:
    """That an attack learns from rows, and so may guess what the model does not know."""
    return {"given_rows": True} if "examples" in made.needs else {}


def _other_models(spec: PromptsRow | ProbeRow, made: Any, wording: Wording) -> Described | None:
    """The row as one that is skipped, where its attack is not for models that make such samples."""
    if made.samples in (wording.samples, ANY):
        return None
    which = spec.attack if isinstance(spec, PromptsRow) else spec.probe
    title = spec.name or f"{_upper(spec.kind)}: {which}"
    skip = f"not applicable: it needs a model that {_MAKERS[made.samples]}"
    return Described(title, "", {}, Cost(), skip=skip, moot=True)


def _describe_probe(
    spec: ProbeRow, sampling: How, given: bool, attached: bool, wording: Wording
) -> Described:
    made = make_probe(spec)
    if changes_weights(spec):
        budget = {"probe": spec.probe, "options": made.options.model_dump(), "paper": made.paper}
        title = spec.name or f"Probe: {spec.probe}, {made.words}"
        return Described(title, made.about, budget, Cost(), looks=1)
    if (other := _other_models(spec, made, wording)) is not None:
        return other
    budget = {"probe": spec.probe, "cases": spec.cases, "options": made.options.model_dump()}
    budget |= {"paper": made.paper, "given_pictures": "pictures" in made.needs, **_learning(made)}
    cost = made.cost(made.options, spec.cases, sampling=sampling, given=given)
    moot = "attachment" in made.needs and not attached
    skip = "not applicable: nothing is attached to the model" if moot else ""
    if spec.probe == "transplant" and not (made.options.sibling or made.options.lora):
        skip = (
            "without a sibling or a LoRA it would put the original's own weights back, which says "
            "nothing of the model"
        )
    return Described(spec.name or f"Probe: {spec.probe}", made.about, budget, cost, skip=skip, moot=moot)


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]
