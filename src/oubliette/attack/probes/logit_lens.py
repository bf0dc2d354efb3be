"""The logit lens: what the model would say if it ended after an earlier block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from oubliette.attack.probes.probe import PUBLISHED, Given, Probe, Shown
from oubliette.attack.probes.states import blocks_at, shown
from oubliette.attack.types import ANSWERS
from oubliette.backends.hooks import changed, read
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

__all__ = ["LogitLens"]


class LogitLens(Probe):
    """Answers given from an earlier block's output, through the last norm and the head.

    An eraser that only turns the last blocks away leaves the answer to be read before them. The blocks after
    the one that is read are passed over at every token, so that the answer is the model's own from there.
    """

    name: ClassVar[str] = "logit-lens"
    about: ClassVar[str] = "answers given from an earlier block, the later ones passed over"
    paper: ClassVar[str] = "nostalgebraist, interpreting GPT: the logit lens, 2020"
    needs: ClassVar[frozenset[str]] = frozenset()
    samples: ClassVar[str] = ANSWERS

    class Options(StrictModel):
        """Which blocks."""

        depths: tuple[float, ...] = Field(
            default=(0.5, 0.75), min_length=1, description="blocks, as shares of all (0 to 1]"
        )

    options: Options

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Any = PUBLISHED, given: bool = False) -> Cost:
        """An answer a case and block."""
        answers = n * len(options.depths)
        return Cost(answers * sampling.passes, 0, answers)

    def _show(self, given: Given) -> Shown:
        """The answers to every case's prompt, block by block."""
        prompts, seeds = [case.prompt for case in given.cases], [case.seed for case in given.cases]
        found = blocks_at(given.model, self.options.depths)
        every = given.model.blocks()
        said: list[str] = []
        for index in found:
            with read(every, [index]) as seen, changed(every, {-1: _instead(seen, index)}):
                said += given.sampling.make(given.model, prompts, seeds)
        return shown(given, found, said)


def _instead(seen: Mapping[int, Tensor], index: int) -> Callable[[Tensor], Tensor]:
    """What an earlier block gave at the same pass, in the place of what the last one gives."""
    return lambda own: seen[index]
