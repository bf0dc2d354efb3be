"""The catalogue of relearning attacks: what is trained on what, at which budget, and whose budget it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field

from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import StrictModel, validated
from oubliette.data.concept import Concept
from oubliette.train.cost import Cost
from oubliette.train.tuning.budget import Budget

if TYPE_CHECKING:
    from oubliette.train.tuning.modes import Reword

__all__ = ["Attack", "attack", "catalogue", "make_attack"]

_PICTURE_STEPS = 25


class Attack(StrictModel):
    """One relearning attack, said in full; from the catalogue or a user's YAML.

    `mode` is one of `oubliette.train.tuning.MODES` (or "re:PATTERN") with its own `options`. `data` is what
    the attacker shows: pictures of the concept, these and a prior set of the broader class, none of it
    (benign), what resembles it (auxiliary), or what has nothing to do with it, which is the attacker's to
    bring (unrelated). `samples` are what models make that it is for; None: either. `identifier` makes it
    DreamBooth: captions are this word and the broader one. `masked` attacks honour a mask and mean nothing
    without one. `learning_rates` are those that a sweep tries.
    """

    name: str
    about: str = ""
    mode: str
    options: dict[str, Any] = Field(default_factory=dict)
    data: Literal["concept", "concept+prior", "benign", "auxiliary", "unrelated"] = "concept"
    samples: Literal["pictures", "answers"] | None = None
    identifier: str | None = Field(default=None, pattern=r"^\S+$")
    prior_pictures: int = Field(default=0, ge=0)
    prior_weight: float = Field(default=1.0, ge=0)
    masked: bool = False
    budget: Budget = Field(default_factory=Budget)
    learning_rates: tuple[float, ...] = ()
    source: str = ""

    @property
    def benign(self) -> bool:
        """Whether the attacker shows nothing of the concept."""
        return self.data in ("benign", "auxiliary", "unrelated")

    def mode_options(self, concept: Concept, words: Iterable[str] = ()) -> dict[str, Any]:
        """The mode's options for this concept: a new token takes the place of the concept's words and
        `words`.

        It starts from the anchor, unless the options say otherwise.
        """
        if self.mode != "textual-inversion":
            return dict(self.options)
        every = tuple(dict.fromkeys((*concept.words, *words)))
        return {"words": every, "initialiser": concept.anchor, **self.options}

    def prompts(self, concept: Concept, words: Iterable[str] = ()) -> Reword | None:
        """How prompts are put to the attacked model, with its token or identifier; None: as they are."""
        from oubliette.attack.material import as_identified
        from oubliette.train.tuning.modes import rewording

        words = tuple(words)
        if self.identifier is not None and not self.benign:
            return as_identified(concept, self.identifier, words)
        return rewording(self.mode, self.mode_options(concept, words))

    def cost(self) -> Cost:
        """Passes through the network, and the prior's pictures, drawn in 25 steps with guidance."""
        with_prior = self.data == "concept+prior"
        drawn = self.prior_pictures if with_prior else 0
        return self.budget.cost(prior=with_prior) + Cost(forwards=drawn * _PICTURE_STEPS * 2, pictures=drawn)

    def changed(self, **budget: Any) -> Attack:
        """This attack with another budget in these fields."""
        return self.model_copy(update={"budget": self.budget.changed(f"attack '{self.name}'", **budget)})


def make_attack(name: str, facts: Mapping[str, Any]) -> Attack:
    """An attack from a mapping as in the catalogue; UserError for unknown keys and names, and for zeros."""
    from oubliette.train.tuning.modes import make_mode

    where = f"attack '{name}'"
    made = validated(Attack, {**facts, "name": name}, where)
    if (made.data == "concept+prior") != (made.prior_pictures > 0):
        raise UserError(f"{where}: 'prior_pictures' must be above 0 for data 'concept+prior', and only then")
    if made.mode != "textual-inversion" or "words" in made.options:
        make_mode(made.mode, made.options)
    return made


@cache
def catalogue() -> dict[str, Attack]:
    """Every attack that is shipped, by name."""
    text = (files("oubliette.attack") / "catalogue.yaml").read_text(encoding="utf-8")
    return {
        name: make_attack(name, {"samples": "pictures", **facts})
        for name, facts in yaml.safe_load(text).items()
    }


def attack(name: str) -> Attack:
    """The catalogue's attack of that name ("L1", "L1-nano"); UserError with the nearest one for any other."""
    if name not in catalogue():
        raise UserError(f"no attack is called '{name}'; {suggest(name, catalogue())}")
    return catalogue()[name]
