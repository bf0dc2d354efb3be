"""An audit from names: models opened, what is audited settled, gold found, attacks and measurement ready."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oubliette.audit.context import AuditContext
from oubliette.audit.novel_reference import choose, make_reference
from oubliette.audit.read_suite import read_suite
from oubliette.audit.result import GOLD, MODEL
from oubliette.audit.setup import frozen_names, make_context
from oubliette.audit.suite import Suite
from oubliette.backends import open_model
from oubliette.backends.base import TEXT_ENCODER
from oubliette.backends.files.delta import recorded_base
from oubliette.backends.soundness import faults_of
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.concepts import concepts_of
from oubliette.eval.pictures.sampling import Sampling
from oubliette.workflows.modality import modality_of
from oubliette.workflows.request import Request
from oubliette.world.world import world_of

__all__ = ["Setting", "cache_folder", "set_up"]

#: What `--gold` takes to leave out a gold model that is known.
WITHOUT = "none"


@dataclass(frozen=True)
class Setting:
    """A bench with the sources that its models were opened from, and what an auditor should be told."""

    bench: AuditContext
    sources: dict[str, str]
    notes: list[str]


def cache_folder() -> Path:
    """Where base's and gold's pictures and results are kept between audits (`OUBLIETTE_CACHE`, or XDG's)."""
    own = os.environ.get("OUBLIETTE_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "oubliette"


def set_up(*named: Any, suite: Suite | Path | str | None, **more: Any) -> Setting:
    """Open everything and settle what is audited; UserError for what cannot be.

    `named` and `more` are the fields of a `Request`. `gold` of what the world's own never saw is
    known ("none" leaves it out); for anything else it is given, or there is none. `suite` is by name, file or
    as it is, None for the modality's own.
    """
    asked = Request(*named, **more)
    if not (suite is None or isinstance(suite, Suite)):
        suite = read_suite(suite)
    opened = open_model(asked.model)
    before = open_model(asked.base if asked.base is not None else recorded_base(opened))
    modality = modality_of(opened)
    suite = read_suite(modality.suite) if suite is None else suite
    how = Sampling(suite.steps, suite.guidance, suite.batch)
    evaluator = modality.evaluator(asked, opened, before, how)
    if len(evaluator.concepts) != 1:
        names = ", ".join(one.name for one in evaluator.concepts)
        raise UserError(f"an audit is of one concept; found {names}: name one (--concept)")
    concept = evaluator.concepts[0]
    reference = _open_gold(WITHOUT if asked.stands_in else asked.gold, before, concept)
    other = choose(before, concept, asked.novel, asked.novel_data) if asked.stands_in else None
    notes = _notes(opened, before, reference, compared=asked.stands_in)
    notes += faults_of({MODEL: opened, "base": before, GOLD: reference})
    frozen = frozen_names(asked.mask, opened)
    driver = modality.driver(asked, opened, evaluator, suite, frozen)
    bench = make_context(
        opened,
        before,
        reference,
        concept,
        suite,
        judges=asked.judges,
        frozen=frozen,
        data=asked.data,
        benign=asked.benign,
        cache=cache_folder() if asked.cache is None else Path(asked.cache),
        seed=asked.seed,
        erased=_recorded(opened),
        driver=driver,
        evaluator=None if driver is None else evaluator,
    )
    if other is not None:
        bench.novel = make_reference(bench, other, asked.novel_data)
    sources = {MODEL: str(opened.source), "base": str(before.source)}
    if reference is not None:
        sources[GOLD] = str(reference.source)
    return Setting(bench, sources, notes)


def _open_gold(gold: Any, base: Any, concept: Concept) -> Any | None:
    from oubliette.backends import open_model

    if isinstance(gold, str) and gold == WITHOUT:
        return None
    if gold is not None:
        return open_model(gold)
    world = world_of(base)
    if world.gold is None or not world.is_unseen(concept.kind, concept.name):
        return None
    return open_model(world.gold, device=base.device)


def _notes(model: Any, base: Any, gold: Any | None, *, compared: bool) -> list[str]:
    notes = []
    own, before = model.tensors(), base.tensors()
    changed = [
        name
        for name in model.groups().get(TEXT_ENCODER, ())
        if name not in before or own[name].shape != before[name].shape or not _equal(own[name], before[name])
    ]
    if changed and gold is not None:
        notes.append(
            "The eraser changed the text encoder, and gold has the base's: the comparison with gold is "
            "partial."
        )
    if gold is None and not compared:
        notes.append("No gold model: “erased” and “hidden by fine-tuning” cannot be told from each other.")
    return notes


def _equal(one: Any, other: Any) -> bool:
    return bool((one.detach().cpu() == other.detach().cpu()).all())


def _recorded(model: Any) -> list[Concept]:

    try:
        return concepts_of(model)
    except UserError:
        return []  # a model without a record: nothing else is known to be erased
