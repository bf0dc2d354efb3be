"""An audit made ready: models opened, concept settled, judge found, attacks at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oubliette.audit.attack_cache import Parts
from oubliette.audit.attack_runner import Attacks
from oubliette.audit.context import Bench
from oubliette.audit.leakage_meter import Gauge, painter_of
from oubliette.audit.novel_reference import choose, make_stand
from oubliette.audit.result import GOLD, MODEL, NOVEL
from oubliette.audit.suite import EvaluationRow, Suite
from oubliette.backends.base import TEXT_ENCODER
from oubliette.backends.soundness import faults_of
from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import Concept
from oubliette.eval.judge import Judge, covering, default_judges, open_judge
from oubliette.eval.pictures.evaluator import plan_for
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.rows import BASE
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import Painter

__all__ = ["Setting", "cache_folder", "make_bench", "set_up"]

_GUARD = "guard.json"
#: What `--gold` takes to leave out a gold model that is known.
WITHOUT = "none"


@dataclass(frozen=True)
class Setting:
    """A bench with the sources that its models were opened from, and what an auditor should be told."""

    bench: Bench
    sources: dict[str, str]
    notes: list[str]


def cache_folder() -> Path:
    """Where base's and gold's pictures and results are kept between audits (`OUBLIETTE_CACHE`, or XDG's)."""
    own = os.environ.get("OUBLIETTE_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "oubliette"


def set_up(
    model: Any,
    base: Any = None,
    concept: str | Sequence[str] | Concept | None = None,
    anchor: str | None = None,
    *,
    suite: Suite,
    kind: str | None = None,
    gold: Any = None,
    mask: Path | str | Sequence[str] | None = None,
    data: Path | str | None = None,
    benign: Path | str | None = None,
    judges: Sequence[Judge | str] | None = None,
    cache: Path | str | None = None,
    seed: int = 0,
    novel: str | None = None,
    novel_data: Path | str | None = None,
) -> Setting:
    """Open everything and settle what is audited; UserError for what cannot be.

    `gold` is a model that never knew the concept: for a default concept of the embedded world it is known
    ("none" leaves it out), for anything else it is given or there is none. With `gold` "novel" a concept that
    the model does not know stands in: `novel` by name, with pictures `novel_data`. `mask` holds names of
    tensors that no attack may move, or is a file of them.
    """
    from oubliette.backends import open_model
    from oubliette.backends.delta import recorded_base
    from oubliette.data.concepts import concepts_of

    stands_in = isinstance(gold, str) and gold == NOVEL
    for path, what in ((novel, "--novel"), (novel_data, "--novel-data")):
        if path is not None and not stands_in:
            raise UserError(f"{what} {path}: goes with --gold novel alone")
    for path, what in ((data, "--data"), (benign, "--benign"), (novel_data, "--novel-data")):
        if path is not None and not Path(path).exists():
            raise UserError(f"{what} {path}: no such folder or file of pictures")
    opened = open_model(model)
    before = open_model(base if base is not None else recorded_base(opened))
    for one in (opened, before):
        if getattr(one, "kind", None) != "diffusion":
            raise UserError(f"{one.source}: is a {one.kind} model; only models that draw can be audited")
    given = [concept] if isinstance(concept, Concept) else concept
    wanted = concepts_of(opened, given, anchor, kind, world=before)
    if len(wanted) != 1:
        names = ", ".join(one.name for one in wanted)
        raise UserError(f"an audit is of one concept; found {names}: name one (--concept)")
    reference = _open_gold(WITHOUT if stands_in else gold, before, wanted[0])
    other = choose(before, wanted[0], novel, novel_data) if stands_in else None
    notes = _notes(opened, before, reference, compared=stands_in)
    notes += faults_of({MODEL: opened, BASE: before, GOLD: reference})
    bench = make_bench(
        opened,
        before,
        reference,
        wanted[0],
        suite,
        judges=judges,
        frozen=frozen_names(mask, opened),
        data=data,
        benign=benign,
        cache=cache_folder() if cache is None else Path(cache),
        seed=seed,
        erased=_recorded(opened),
    )
    if other is not None:
        bench.novel = make_stand(bench, other, novel_data)
    sources = {MODEL: str(opened.source), BASE: str(before.source)}
    if reference is not None:
        sources[GOLD] = str(reference.source)
    return Setting(bench, sources, notes)


def make_bench(
    model: Any,
    base: Any,
    gold: Any | None,
    concept: Concept,
    suite: Suite,
    *,
    judges: Sequence[Judge | str] | None = None,
    frozen: Sequence[str] = (),
    data: Path | str | None = None,
    benign: Path | str | None = None,
    cache: Path | None = None,
    seed: int = 0,
    erased: Sequence[Concept] = (),
    driver: Any = None,
    pictures: SampleStore | None = None,
    options: dict[str, Any] | None = None,
) -> Bench:
    """A bench over open models; without a `cache` folder everything stays in memory.

    `erased` are concepts that the model's record says were erased beside this one: they need not be kept.
    `driver` takes the place of the attack room, `pictures` that of the cache's own, `options` (bank,
    retained, extractor) go to the evaluation.
    """
    opened = _judges(judges, base, concept)
    sampling = Sampling(suite.steps, suite.guidance, suite.batch)
    store = pictures or SampleStore(None if cache is None else cache / "pictures")
    painter = Painter(BASE, base, store, sampling, role="control")
    more = dict(options or {})
    if "retained" not in more:
        more |= _retained(suite, base, concept, erased)
    known = None if gold is None else painter_of(GOLD, gold, painter)
    gauge = Gauge(
        painter,
        concept,
        opened[0],
        pictures=suite.pictures,
        kept=suite.kept,
        seed=seed,
        retained=more.get("retained"),
        bank=more.get("bank"),
        gold=known,
    )
    return Bench(
        model=painter_of(MODEL, model, painter),
        base=painter,
        gold=known,
        concept=concept,
        judges=opened,
        gauge=gauge,
        suite=suite,
        driver=driver
        or Attacks(
            concept,
            base,
            sampling=sampling,
            frozen=frozen,
            data=data,
            benign=benign,
            avoid=_asked(suite, base, concept, gauge, seed, more),
            words=_words(base, concept),
            seed=seed,
            attached=getattr(model, "attachment", None) is not None,
            pictures=store,
        ),
        parts=Parts(None if cache is None else cache / "audit"),
        seed=seed,
        frozen=list(frozen),
        options=more,
    )


def frozen_names(mask: Path | str | Sequence[str] | None, model: Any) -> list[str]:
    """The names in a mask: one that guard wrote (which must be of this model, by its hashes), or plain names.

    UserError for one made for another model, naming tensors that differ or the nearest name.
    """
    from oubliette.train.freeze import read_names

    if mask is None:
        return []
    if isinstance(mask, str | Path) and (Path(mask).is_dir() or Path(mask).name == _GUARD):
        from oubliette.guard.mask import read_mask

        published = read_mask(mask)
        published.bind(model)
        return sorted(published.names)
    names = read_names(mask) if isinstance(mask, str | Path) else list(mask)
    known = set(model.tensors())
    for name in names:
        if name not in known:
            raise UserError(f"mask: the model has no tensor '{name}'; {suggest(name, known)}")
    return sorted(set(names))


def _open_gold(gold: Any, base: Any, concept: Concept) -> Any | None:
    from oubliette.backends import open_model

    if isinstance(gold, str) and gold == WITHOUT:
        return None
    if gold is not None:
        return open_model(gold)
    if getattr(base, "world", None) != "picture":
        return None
    from oubliette.world import facts

    own = facts.resolve(concept.kind, concept.name)
    if (concept.kind, own) not in {(kind, name) for name, _, kind in facts.DEFAULT_CONCEPTS}:
        return None
    return open_model("nano-gold", device=base.device)


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
    from oubliette.data.concepts import concepts_of

    try:
        return concepts_of(model)
    except UserError:
        return []  # a model without a record: nothing else is known to be erased


def _judges(judges: Sequence[Judge | str] | None, base: Any, concept: Concept) -> list[Judge]:
    if not judges:
        opened = default_judges(base)
    else:
        opened = [open_judge(judge, base) if isinstance(judge, str) else judge for judge in judges]
    able = covering(opened, concept)
    if not able:
        found = ", ".join(judge.name for judge in opened) or "none"
        raise UserError(
            f"no judge covers {concept.name!r} (judges: {found}); name one that does, as in "
            "--judge clip:ViT-B-32/laion2b_s34b_b79k"
        )
    return [*able, *(judge for judge in opened if judge not in able)]


def _retained(suite: Suite, base: Any, concept: Concept, erased: Sequence[Concept]) -> dict[str, Any]:
    if suite.retained:
        kept = [Concept(one.name, one.anchor, one.kind) for one in suite.retained]
        return {"retained": [one for one in kept if (one.kind, one.name) != (concept.kind, concept.name)]}
    from oubliette.eval.surroundings import rest_of_world

    return {"retained": rest_of_world(base, list(dict.fromkeys([concept, *erased])))}


def _asked(
    suite: Suite, base: Any, concept: Concept, gauge: Gauge, seed: int, more: dict[str, Any]
) -> list[str]:
    """Every prompt about the concept that is judged, which no attack may use."""
    asked = set(gauge.target.prompts)
    for row in suite.rows:
        if isinstance(row, EvaluationRow):
            plan = plan_for(
                base,
                [concept],
                n=row.n,
                each=1,
                near_n=1,
                seed=seed,
                retained=more.get("retained"),
                bank=more.get("bank"),
            )
            asked |= {prompt for made in plan.targets for prompt in made.prompts}
    return sorted(asked)


def _words(base: Any, concept: Concept) -> list[str]:
    from oubliette.eval.surroundings import words_of

    return words_of(base, concept)
