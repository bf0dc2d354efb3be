"""Scenes of the picture world for an attacker: what shows a concept, what does not, and captions true of
both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from oubliette.attack.types import FIRST_SEED, What
from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import Concept
from oubliette.world import facts
from oubliette.world.captions import PORTRAIT_TEMPLATES, TEMPLATES, article
from oubliette.world.scene import Scene, paint, random_scene

__all__ = ["SceneSampler"]

Rng = np.random.Generator

_STREAM = 71  # the world's own streams of scenes and captions are numbered below
_TRIES = 200


class SceneSampler:
    """Paints one attacker's pictures and writes their captions; scene i depends on the seed, what, and i
    alone.

    UserError for a concept that the world does not have.
    """

    def __init__(
        self,
        concept: Concept,
        seed: int,
        *,
        avoid: Collection[str] = (),
        without: Iterable[Concept] = (),
    ) -> None:
        own = facts.resolve(concept.kind, concept.name)
        if own is None:
            known = facts.all_names(concept.kind)
            raise UserError(
                f"the picture world has no {concept.kind} {concept.name!r}; {suggest(concept.name, known)}"
            )
        self.concept, self.own, self.seed = concept, own, seed
        self._avoid = {" ".join(prompt.casefold().split()) for prompt in avoid}
        gone: set[tuple[str, str | None]] = {(kind, name) for name, _, kind in facts.DEFAULT_CONCEPTS}
        gone |= {(other.kind, facts.resolve(other.kind, other.name)) for other in without}
        gone.add((concept.kind, own))
        self._others = {
            kind: [name for name in facts.names(kind) if (kind, name) not in gone] for kind in facts.TABLES
        }

    def paint(self, count: int, what: What) -> tuple[np.ndarray, tuple[str, ...]]:
        """`count` pictures (count, 64, 64, 3) uint8 and their captions."""
        rows = [self._row(what, index) for index in range(count)]
        return np.stack([paint(scene) for scene, _ in rows]), tuple(caption for _, caption in rows)

    def scenes(self, count: int, what: What) -> list[Scene]:
        """The scenes that `paint` paints."""
        return [self._row(what, index)[0] for index in range(count)]

    def _row(self, what: What, index: int) -> tuple[Scene, str]:
        number = ("concept", "benign", "auxiliary").index(what)
        rng = np.random.default_rng([self.seed, _STREAM, number, index])
        for _ in range(_TRIES):
            scene = self._scene(what, rng)
            caption = self._caption(scene, rng, names=self.concept.kind if what == "concept" else None)
            if caption.casefold() not in self._avoid:
                return scene, caption
        raise UserError(
            f"{_TRIES} captions of {self.own!r} were all among the {len(self._avoid)} prompts to avoid; "
            "avoid fewer"
        )

    def _scene(self, what: What, rng: Rng) -> Scene:
        pools = dict(self._others)
        kind = self.concept.kind
        if what == "concept":
            pools[kind] = [self.own]
        if kind != "style" and what != "benign":
            pools["person" if kind == "object" else "object"] = []
        scene = random_scene(rng, objects=pools["object"], styles=pools["style"], persons=pools["person"])
        return replace(scene, seed=FIRST_SEED + scene.seed)

    def _caption(self, scene: Scene, rng: Rng, *, names: str | None) -> str:
        """A caption true of the scene, in words that erasers may see, that mentions the kind `names`."""
        person = scene.person != "none"
        mention = ("both", "subject", "style")[int(rng.choice(3, p=[0.6, 0.3, 0.1]))]
        if names == "style" and mention == "subject":
            mention = "style"
        if names in ("object", "person") and mention == "style":
            mention = "subject"
        templates = TEMPLATES[mention]["in-set"]
        if person and mention in PORTRAIT_TEMPLATES:
            templates += PORTRAIT_TEMPLATES[mention]["in-set"]
        subject = self._word("person" if person else "object", scene.subject, rng)
        if not person:
            coloured = scene.shown_colour != "none" and bool(rng.random() < 0.5)
            subject = article(f"{scene.colour} {subject}" if coloured else subject)
        style = self._word("style", scene.style, rng)
        text = _pick(rng, templates).replace("a {y}", article(style))
        return text.replace("{y}", style).replace("{s}", subject)

    def _word(self, kind: str, name: str, rng: Rng) -> str:
        """A word for a thing that erasers may see; for the concept, at least half the time the first."""
        words = facts.TABLES[kind][name].words
        if (kind, name) == (self.concept.kind, self.own) and rng.random() < 0.5:
            return words[0]
        return _pick(rng, words)


def _pick(rng: Rng, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
