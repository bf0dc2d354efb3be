"""The attachment taken off: what anyone can do who holds the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from oubliette.attack.probes.probe import PUBLISHED, Given, Probe, Shown, draws
from oubliette.attack.types import Drawing
from oubliette.backends.attachment import Attachable
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    pass


class Detach(Probe):
    """Draw the concept's own prompts with the model's weights alone.

    What is attached to a model leaves its weights as they are and is taken off by leaving out one file; the
    probe does so and asks again. A model that has nothing attached, such as gold in its control, is drawn
    from as it is.
    """

    name: ClassVar[str] = "detach"
    about: ClassVar[str] = "taking off what is attached to the model"
    paper: ClassVar[str] = "none: the model's own folder says how"
    needs: ClassVar[frozenset[str]] = frozenset({"attachment"})

    class Options(StrictModel):
        """None: there is one way to take it off."""

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Drawing = PUBLISHED, given: bool = False) -> Cost:
        """Each case drawn once."""
        return Cost(forwards=draws(sampling, n), backwards=0, pictures=n)

    def _show(self, given: Given) -> Shown:
        """One picture a case, from its own prompt and seed; the attachment is back at the end."""
        model, cases, sampling = given.model, given.cases, given.sampling
        if not isinstance(given.model, Attachable):
            raise UserError(f"probe '{self.name}' needs a model that draws pictures; {model.source} does not")
        if not cases:
            raise UserError(f"probe '{self.name}': no prompts were given")
        prompts, seeds = [case.prompt for case in cases], [case.seed for case in cases]
        with model.detached():
            drawn = model.draw(
                prompts,
                seeds,
                steps=sampling.steps,
                guidance=sampling.guidance,
                batch=sampling.batch,
                progress=given.progress,
            )
        return Shown(drawn, tuple(prompts), tuple(seeds))
