"""A concept that the model does not know, in gold's place: how fast the same model learns something new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.context import AuditContext, NovelReference
from oubliette.audit.leakage_meter import LeakageMeter
from oubliette.audit.result import Novel
from oubliette.core.errors import UserError
from oubliette.core.numbers import percent
from oubliette.data.concept import Concept
from oubliette.eval.judge import covering
from oubliette.eval.surroundings import words_of
from oubliette.world.world import world_of

__all__ = ["choose", "make_reference", "novel_facts"]


def choose(base: Any, concept: Concept, name: str | None, data: Path | str | None) -> Concept:
    """The novel concept of `concept`'s kind: as named, or of the novel pool of the base's world.

    There the one with the same broader word is taken, else the first. UserError where the base comes from no
    known world and no name or no pictures are given.
    """
    from oubliette.data.concepts import make_concepts

    world = world_of(base)
    name = name or world.stranger(concept.kind, concept.name)
    if name is None or (data is None and world.scenes is None):
        raise UserError(
            f"--gold novel: name a {concept.kind} that {base.source} does not know, and give pictures of it "
            "(--novel NAME --novel-data PICTURES)"
        )
    made = make_concepts(base, [name], None, concept.kind)[0]
    if made.name.casefold() in {word.casefold() for word in words_of(base, concept)}:
        raise UserError(f"--novel {name}: is the audited concept itself; name one the model does not know")
    return made


def make_reference(bench: AuditContext, concept: Concept, data: Path | str | None = None) -> NovelReference:
    """Attacks that teach the novel concept, and a gauge that holds it against its own pictures.

    The base does not draw it: what counts as all of it is how often the judge finds it in what the attacker
    is given. UserError where no judge covers it, or its pictures cannot be read.
    """
    judges = covering([bench.meter.judge, *bench.judges], concept)
    if not judges:
        names = ", ".join(judge.name for judge in bench.judges)
        raise UserError(
            f"--gold novel: no judge covers {concept.name!r} (judges: {names}); name one that does"
        )
    suite, base = bench.suite, bench.base.model
    meter = LeakageMeter(
        bench.base,
        concept,
        judges[0],
        pictures=suite.pictures,
        kept=suite.kept,
        seed=bench.seed,
        evaluator=bench.evaluator.about([concept]),
    )
    driver = PictureAttackRunner(
        concept,
        base,
        sampling=bench.base.sampling,
        frozen=bench.frozen,
        data=data,
        avoid=sorted(meter.target.prompts),
        words=words_of(base, concept),
        seed=bench.seed,
    )
    given = driver.material("concept", suite.pictures, bench.seed)
    meter.full = meter.found(given.pictures)
    return NovelReference(concept, meter, driver, given.where)


def novel_facts(bench: AuditContext) -> Novel | None:
    """What stands in gold's place and what the model shows of it before any attack; None where nothing does.

    UserError where the judge cannot tell the concept's pictures from others, and where the model knows it.
    """
    if bench.novel is None:
        return None
    concept, meter, level = bench.novel.concept, bench.novel.meter, bench.suite.limits.level
    full, floor = meter.base_rate, meter.floor
    start = meter.look(bench.model).leakage
    if start is None:
        raise UserError(
            f"--gold novel: the judge finds {concept.name!r} in {percent(full.value)} of its own pictures "
            f"and in {percent(floor.value)} of those without it, so it cannot tell; name another concept or "
            "judge"
        )
    if start.value >= level:
        raise UserError(
            f"--gold novel: the model knows {concept.name!r} already: before any attack it shows "
            f"{percent(start.value)} of its strength, and should show less than {percent(level)}; "
            "name another concept"
        )
    return Novel(concept.name, concept.kind, concept.anchor, bench.novel.source, full, floor, start)
