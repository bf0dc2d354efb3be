"""The attacks, put to work for an audit: rows of a suite to calls of the attack room."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oubliette.attack.catalogue import Attack
from oubliette.attack.material import Material, attack_seeds, draw_prior, from_folder, from_world
from oubliette.attack.prompts import found_table
from oubliette.attack.prompts.cases import make_cases
from oubliette.attack.prompts.records import Case
from oubliette.attack.types import Hits
from oubliette.audit.context import Described, Reword
from oubliette.audit.resolve import changes_weights, describe, make_probe, make_search, resolve
from oubliette.audit.suite import ProbeRow, PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import SampleStore
from oubliette.train.finetune import SupervisedData
from oubliette.world.world import World, world_of

if TYPE_CHECKING:
    from oubliette.attack.probes.probe import Shown

__all__ = ["PictureAttackRunner"]


class PictureAttackRunner:
    """The attack room as the audit needs it (`oubliette.audit.context.AttackRunner`).

    `data` are the attacker's pictures of the concept and `benign` those that do not show it, each a folder or
    a parquet file; where none is given they come from the base's world, or are drawn by the base. `avoid` are
    the evaluation's prompts, which no attack uses; `words` further words for the concept, that a new token
    replaces. `attached`: the model under audit has an attachment. `pictures` keeps what several attacks begin
    with.
    """

    def __init__(
        self,
        concept: Concept,
        base: Any,
        *,
        sampling: Sampling,
        frozen: Sequence[str] = (),
        data: Path | str | None = None,
        benign: Path | str | None = None,
        avoid: Sequence[str] = (),
        words: Sequence[str] = (),
        seed: int = 0,
        attached: bool = False,
        pictures: SampleStore | None = None,
    ) -> None:
        self.concept, self.base, self.sampling = concept, base, sampling
        self.frozen, self.avoid, self.words, self.seed = list(frozen), list(avoid), tuple(words), seed
        self._paths = {"concept": data, "benign": benign, "auxiliary": benign, "unrelated": benign}
        self._materials: dict[tuple[str, int, int], Material] = {}
        self._attached = attached
        self._kept = pictures or SampleStore()
        self.skipped: dict[str, str] = {}
        """Pictures that could not be read: file and reason."""

    @property
    def paths(self) -> dict[str, str | None]:
        """Where the auditor's own pictures lie."""
        return {what: None if path is None else str(path) for what, path in self._paths.items()}

    @property
    def world(self) -> World:
        """The world the base comes from."""
        return world_of(self.base)

    # -- what a row will be ----------------------------------------------------------------------------------

    def describe(self, spec: Any) -> Described:
        """Title, line, budget and cost of a row on one subject, without what it takes to look."""
        given = self._paths["concept"] is not None
        return describe(
            spec,
            self.world,
            self.sampling,
            frozen=len(self.frozen),
            given=given,
            attached=self._attached,
        )

    def facts(self, spec: Any, seed: int) -> Any:
        """What a row's outcome depends on beside the row itself: resolved options, data, cases, frozen
        tensors.
        """
        if changes_weights(spec):
            return []
        if isinstance(spec, PromptsRow):
            made = make_search(spec, self.world)
            return [made.options.model_dump(mode="json"), _plain(self.cases(spec.cases, seed)), self._base()]
        if isinstance(spec, ProbeRow):
            options = make_probe(spec).options.model_dump(mode="json")
            given = self._paths["concept"] is not None
            pictures = _digest(self.material("concept", spec.cases, seed)) if given else self._base()
            return [options, _plain(self.cases(spec.cases, seed)), pictures]
        found = resolve(spec, self.world)
        material = self.material(_kind_of(found), found.budget.pictures, seed)
        return [found.model_dump(mode="json"), _digest(material), list(self.words), sorted(self.frozen)]

    # -- data ------------------------------------------------------------------------------------------------

    def material(self, what: str, count: int, seed: int) -> Material:
        """The attacker's pictures, read, painted or drawn once."""
        key = (what, count, seed)
        if key not in self._materials:
            self._materials[key] = self._make_material(what, count, seed)
        return self._materials[key]

    def cases(self, count: int, seed: int) -> list[Case]:
        """Prompts of the concept's own, with seeds that no evaluation uses."""
        return make_cases(self.concept, count, seed=seed, world=self.world, avoid=self.avoid)

    def _make_material(self, what: str, count: int, seed: int) -> Material:
        path = self._paths[what]
        if what == "unrelated" and path is None:
            raise UserError("it wants pictures of unrelated things; give some (--benign)")
        side = self.base.picture_side
        kind: Any = what
        if path is not None:
            made = from_folder(path, side, count=count, concept=self.concept, what=kind)
            self.skipped |= dict(made.skipped)
            return made
        if self.world.scenes is not None:
            return from_world(
                self.concept, side, count=count, seed=seed, what=kind, avoid=self.avoid, world=self.world
            )
        if what == "concept":
            prompts = [case.prompt for case in self.cases(count, seed)]
        else:
            from oubliette.data.prompts import load_bank

            prompts = load_bank(self.world.bank).retain(self.concept, count, seed)
        how = self.sampling
        pictures = self.base.draw(
            prompts,
            attack_seeds(f"material/{what}/{self.concept.name}", count, seed),
            steps=how.steps,
            guidance=how.guidance,
            batch=how.batch,
        )
        return Material(pictures, tuple(prompts), kind, f"drawn by {self.base.source}")

    def _base(self) -> str:
        return str(self.base.fingerprint())

    # -- attacking -------------------------------------------------------------------------------------------

    def rewrite(self, spec: Any) -> Reword | None:
        """How prompts are put to a model under attack: with its new token or identifier."""
        return resolve(spec, self.world).prompts(self.concept, self.words)

    def relearn(
        self, spec: RelearnRow, model: Any, *, seed: int, at: Sequence[int], look: Callable[[int, Any], None]
    ) -> str:
        """Fine-tune and look; the model comes back bit for bit."""
        from oubliette.attack.relearn import relearn

        found = resolve(spec, self.world)
        material = self.material(_kind_of(found), found.budget.pictures, seed)
        note = ""
        if len(material) < found.budget.pictures:
            note = f"only {len(material)} of {found.budget.pictures} pictures were there"
        if material.skipped:
            count = len(material.skipped)
            note += f"{'; ' if note else ''}{count} broken picture{'' if count == 1 else 's'} skipped"
        relearn(
            model,
            self.data(found, material, model, seed),
            found.mode,
            found.budget.changed(seed=seed),
            frozen=self.frozen or None,
            at=at,
            look=look,
            options=found.mode_options(self.concept, self.words),
        )
        return note

    def seconds_an_item(self, spec: RelearnRow, model: Any, steps: int = 2) -> float:
        """Seconds of one item forwards and backwards, timed on a few updates; the model is as before."""
        from oubliette.attack.relearn import relearn

        found = resolve(spec, self.world)
        budget = found.budget.changed(pictures=min(4, found.budget.pictures), steps=steps, warm_up=0)
        material = self.material(_kind_of(found), budget.pictures, self.seed)
        done = relearn(
            model,
            material.data(model),
            found.mode,
            budget,
            frozen=self.frozen or None,
            options=found.mode_options(self.concept, self.words),
        )
        return done.seconds / (steps * budget.batch * budget.accumulation)

    def data(self, found: Attack, material: Material, model: Any, seed: int) -> SupervisedData:
        """Pictures and captions as the attack wants them, with a prior set drawn by the attacked model."""
        if found.identifier is not None and not found.benign:
            material = material.identified(self.concept, found.identifier)
        prior = None
        if found.prior_pictures:
            how = self.sampling
            prior = draw_prior(
                model,
                self.concept,
                count=found.prior_pictures,
                seed=seed,
                steps=how.steps,
                guidance=how.guidance,
            )
        return material.data(model, prior=prior, prior_weight=found.prior_weight)

    def search(self, spec: PromptsRow, model: Any, *, hits: Hits, seed: int) -> Sequence[Any]:
        """Search for prompts that bring the concept back."""
        made = make_search(spec, self.world)
        cases = self.cases(spec.cases, seed)
        return list(
            made.search(
                model,
                self.concept,
                cases,
                hits,
                base=self.base,
                sampling=self.sampling,
                seed=seed,
                draw=self._begun(cases, model, self.base),
            )
        )

    def tries(self, spec: PromptsRow) -> int:
        """Adversarial prompts a case has at most."""
        return int(make_search(spec, self.world).tries())

    def csv(self, spec: PromptsRow, found: Sequence[Any]) -> str:
        """The field's table of prompts."""
        return found_table(found, attack=spec.attack, concept=self.concept.name)

    def check_replay(self, originals: Sequence[str]) -> None:
        """Any will do: the judge looks at the picture alone."""

    def probe(self, spec: ProbeRow, model: Any, *, hits: Hits, seed: int) -> Shown:
        """Probe the model with prompts, and pictures of the concept where the probe needs them."""
        made = make_probe(spec)
        cases = self.cases(spec.cases, seed)
        pictures = None
        if "pictures" in made.needs:
            pictures = self._pictures(cases, seed)
        shown: Shown = made.run(
            model,
            self.concept,
            cases,
            base=self.base,
            pictures=pictures,
            sampling=self.sampling,
            seed=seed,
            hits=hits if made.wants_hits else None,
        )
        return shown

    def _pictures(self, cases: Sequence[Case], seed: int) -> Any:
        """The auditor's pictures, or the base's of these cases, drawn once for the model and for gold."""
        if self._paths["concept"] is not None:
            return self.material("concept", len(cases), seed).pictures
        draw = self._begun(cases, self.base)
        return draw(self.base, [case.prompt for case in cases], [case.seed for case in cases])

    def _begun(self, cases: Sequence[Case], *models: Any) -> Callable[..., np.ndarray]:
        """Draws for an attack, and keeps what the cases' own prompts gave: every search begins with them.

        What a search tries is drawn and forgotten. The models' weights must stay as they are meanwhile.
        """
        marks = {id(model): str(model.fingerprint()) for model in models}
        first = {(case.prompt, case.seed) for case in cases}
        how = self.sampling

        def draw(model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
            if id(model) in marks and first.issuperset(zip(prompts, seeds, strict=True)):
                return self._kept.draw(model, prompts, seeds, how, fingerprint=marks[id(model)])
            return how.together(prompts, how.make(model, prompts, seeds))

        return draw


def _kind_of(found: Attack) -> str:
    return "concept" if found.data == "concept+prior" else found.data


def _digest(material: Material) -> list[str]:
    digest = hashlib.sha256(repr(material.pictures.shape).encode() + material.pictures.tobytes())
    return [digest.hexdigest(), hashlib.sha256("\n".join(material.captions).encode()).hexdigest()]


def _plain(cases: Sequence[Case]) -> list[list[Any]]:
    return [[case.prompt, case.seed] for case in cases]
