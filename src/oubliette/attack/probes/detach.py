"""The attachment taken off: what anyone can do who holds the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from oubliette.attack.probes.probe import PUBLISHED, Probe, Progress, Shown, draws
from oubliette.attack.types import How
from oubliette.backends.attachment import Attachable
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.attack.prompts.records import Case
    from oubliette.attack.types import Hits
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.data.concept import Concept


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
    def cost(cls, options: Any, n: int, *, sampling: How = PUBLISHED, given: bool = False) -> Cost:
        """Each case drawn once."""
        return Cost(forwards=draws(sampling, n), backwards=0, pictures=n)

    def run(
        self,
        model: DiffusionBackend,
        concept: Concept,
        cases: Sequence[Case],
        *,
        base: DiffusionBackend | None = None,
        pictures: np.ndarray | None = None,
        sampling: How = PUBLISHED,
        seed: int = 0,
        hits: Hits | None = None,
        progress: Progress | None = None,
    ) -> Shown:
        """One picture a case, from its own prompt and seed; the attachment is back at the end."""
        if not isinstance(model, Attachable):
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
                progress=progress,
            )
        return Shown(drawn, tuple(prompts), tuple(seeds))
