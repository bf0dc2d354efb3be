"""An audit made ready: judges found, attacks and measurement at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oubliette.audit.attack_cache import AttackCache
from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.context import AuditContext
from oubliette.audit.leakage_meter import LeakageMeter, painter_of
from oubliette.audit.result import GOLD, MODEL
from oubliette.audit.suite import EvaluationRow, Suite
from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import Concept
from oubliette.eval.evaluator import Evaluator
from oubliette.eval.judge import Judge, covering
from oubliette.eval.pictures.evaluator import PictureEvaluator
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.rows import BASE
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler

__all__ = ["asked_prompts", "frozen_names", "make_context"]

_GUARD = "guard.json"


def make_context(
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
    evaluator: Evaluator | None = None,
) -> AuditContext:
    """A bench over open models; without a `cache` folder everything stays in memory.

    `erased` are concepts that the model's record says were erased beside this one: they need not be kept.
    `driver` takes the place of the attack room, `pictures` that of the cache's own, `options` (bank,
    retained, extractor) go to the evaluator of pictures, whose place `evaluator` takes where there is one.
    """
    if evaluator is None:
        more = dict(options or {})
        if "retained" not in more:
            more |= _retained(suite, base, concept, erased)
        evaluator = PictureEvaluator(
            base,
            [concept],
            judges=judges,
            sampling=Sampling(suite.steps, suite.guidance, suite.batch),
            **more,
        )
    opened = _able(evaluator.judges, concept)
    store = pictures or SampleStore(None if cache is None else cache / "pictures")
    painter = CachedSampler(BASE, base, store, evaluator.sampling, role="control")
    known = None if gold is None else painter_of(GOLD, gold, painter)
    meter = LeakageMeter(
        painter,
        concept,
        opened[0],
        pictures=suite.pictures,
        kept=suite.kept,
        seed=seed,
        evaluator=evaluator,
        gold=known,
    )
    return AuditContext(
        model=painter_of(MODEL, model, painter),
        base=painter,
        gold=known,
        concept=concept,
        judges=opened,
        evaluator=evaluator,
        meter=meter,
        suite=suite,
        driver=driver
        or PictureAttackRunner(
            concept,
            base,
            sampling=painter.sampling,
            frozen=frozen,
            data=data,
            benign=benign,
            avoid=asked_prompts(suite, evaluator, suite.pictures, seed),
            words=_words(base, concept),
            seed=seed,
            attached=getattr(model, "attachment", None) is not None,
            pictures=store,
        ),
        parts=AttackCache(None if cache is None else cache / "audit"),
        seed=seed,
        frozen=list(frozen),
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


def _able(judges: Sequence[Judge], concept: Concept) -> list[Judge]:
    """The judges, those that know the concept first; UserError where none does."""
    able = covering(judges, concept)
    if not able:
        found = ", ".join(judge.name for judge in judges) or "none"
        raise UserError(
            f"no judge covers {concept.name!r} (judges: {found}); name one that does, as in "
            "--judge clip:ViT-B-32/laion2b_s34b_b79k"
        )
    return [*able, *(judge for judge in judges if judge not in able)]


def _retained(suite: Suite, base: Any, concept: Concept, erased: Sequence[Concept]) -> dict[str, Any]:
    if suite.retained:
        kept = [Concept(one.name, one.anchor, one.kind) for one in suite.retained]
        return {"retained": [one for one in kept if (one.kind, one.name) != (concept.kind, concept.name)]}
    from oubliette.eval.surroundings import rest_of_world

    return {"retained": rest_of_world(base, list(dict.fromkeys([concept, *erased])))}


def asked_prompts(suite: Suite, evaluator: Evaluator, pictures: int, seed: int) -> list[str]:
    """Every prompt about the concept that is judged, which no attack may use."""
    asked = set(evaluator.plan(n=pictures, each=1, near_n=1, seed=seed).targets[0].prompts)
    for row in suite.rows:
        if isinstance(row, EvaluationRow):
            plan = evaluator.plan(n=row.n, each=1, near_n=1, seed=seed)
            asked |= {prompt for made in plan.targets for prompt in made.prompts}
    return sorted(asked)


def _words(base: Any, concept: Concept) -> list[str]:
    from oubliette.eval.surroundings import words_of

    return words_of(base, concept)
