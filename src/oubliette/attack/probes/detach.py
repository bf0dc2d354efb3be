"""The attachment taken off: what anyone can do who holds the model."""

from __future__ import annotations

from typing import Any, ClassVar

from oubliette.attack.probes.probe import PUBLISHED, Given, Probe, Shown, parts
from oubliette.attack.types import ANY, How
from oubliette.backends.attachment import Attachable
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost


class Detach(Probe):
    """Ask for the concept by its own prompts with the model's weights alone, for pictures or for answers.

    What is attached to a model leaves its weights as they are and is taken off by leaving out one file; the
    probe does so and asks again. A model that has nothing attached, such as gold in its control, is asked
    as it is.
    """

    name: ClassVar[str] = "detach"
    about: ClassVar[str] = "taking off what is attached to the model"
    paper: ClassVar[str] = "none: the model's own folder says how"
    needs: ClassVar[frozenset[str]] = frozenset({"attachment"})
    samples: ClassVar[str] = ANY

    class Options(StrictModel):
        """None: there is one way to take it off."""

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: How = PUBLISHED, given: bool = False) -> Cost:
        """Each case asked for once."""
        return Cost(forwards=n * sampling.passes, backwards=0, pictures=n)

    def _show(self, given: Given) -> Shown:
        """One sample a case, from its own prompt and seed; the attachment is back at the end."""
        model, cases, how = given.model, given.cases, given.sampling
        if not isinstance(model, Attachable):
            raise UserError(
                f"probe '{self.name}' needs a model that something can be attached to; {model.source} is none"
            )
        if not cases:
            raise UserError(f"probe '{self.name}': no prompts were given")
        prompts, seeds = [case.prompt for case in cases], [case.seed for case in cases]
        made: list[Any] = []
        with model.detached():
            for part in parts(len(cases), how.batch):
                made += how.make(model, prompts[part], seeds[part])
                if given.progress is not None:
                    given.progress(len(made), len(cases))
        return Shown(how.together(prompts, made), tuple(prompts), tuple(seeds))
