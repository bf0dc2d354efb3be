"""A linear probe on hidden states: is the answer there, whatever the model says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.probes.probe import PUBLISHED, Given, Probe, Shown, derived_seed
from oubliette.attack.probes.states import blocks_at, shown, states
from oubliette.attack.types import ANSWERS
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.data.questions import QA
from oubliette.train.cost import Cost

__all__ = ["LinearProbe", "LinearReader", "fit"]

_HELD = 4  # of so many rows one is held out, to tell how well the map reads what it was not fitted on
_READ = "?"  # the answer of a row whose states are read: it comes after them


class LinearProbe(Probe):
    """Reads answers out of hidden states by a linear map that was fitted on rows of the rest.

    The map goes from the state where a row's answer begins to which answer it is, by ridge regression on
    one-hot answers. What it reads on the rows to be forgotten is judged as an answer. It can only read
    answers that rows of the rest have too; `decodable` says for how many cases there is one, `retain` how
    often it is right on rows of the rest that were held out.
    """

    name: ClassVar[str] = "linear-probe"
    about: ClassVar[str] = "answers read out of hidden states by a linear map fitted on what was kept"
    paper: ClassVar[str] = "Alain and Bengio, Linear Classifier Probes, 2016 (1610.01644)"
    needs: ClassVar[frozenset[str]] = frozenset({"examples"})
    samples: ClassVar[str] = ANSWERS
    wants_hits: ClassVar[bool] = True

    class Options(StrictModel):
        """Which blocks, and how the map is fitted."""

        depths: tuple[float, ...] = Field(
            default=(0.5, 0.75, 1.0), min_length=1, description="blocks, as shares of all (0 to 1]"
        )
        rows: int = Field(default=1000, ge=8, description="rows that it is fitted on at most")
        ridge: float = Field(default=0.1, gt=0, description="weight of the penalty, of the mean variance")

    options: Options

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Any = PUBLISHED, given: bool = False) -> Cost:
        """A forward pass a row; an answer a case and block."""
        return Cost(options.rows + n, 0, n * len(options.depths))

    def _show(self, given: Given) -> Shown:
        """The answer that is read for each case, block by block."""
        assert given.examples is not None
        if given.hits is None:
            raise UserError(
                f"probe '{self.name}' tells by a judge which answers it could read; give one (hits)"
            )
        numbered = _worded(given.examples("benign"))[: self.options.rows]
        if not numbered:
            raise UserError(f"probe '{self.name}': none of the rows to learn from is a question")
        rows = [row for row, _ in numbered]
        names = sorted({row.answer for row in rows})
        prompts = [case.prompt for case in given.cases]
        decodable = float(np.mean([_among(given, prompt, names) for prompt in prompts]))
        if not decodable or len(names) < 2:
            raise UserError(
                f"probe '{self.name}': none of the {len(prompts)} answers to be forgotten is among the "
                f"{len(names)} of the rows to learn from, so that there is nothing that it could read"
            )
        labels = torch.tensor([names.index(row.answer) for row in rows])
        rng = torch.Generator().manual_seed(derived_seed(self.name, given.seed))
        order = torch.randperm(1 + numbered[-1][1], generator=rng)
        held = order[[number for _, number in numbered]] % _HELD == 0
        blocks = blocks_at(given.model, self.options.depths)
        size = given.sampling.batch
        own = states(given.model, rows, blocks, size)
        asked = states(given.model, [QA(prompt, _READ) for prompt in prompts], blocks, size)
        said: list[str] = []
        kept: list[float] = []
        for index in blocks:
            part = fit(own[index][~held], labels[~held], self.options.ridge)
            right = part.read(own[index][held]) == labels[held]
            kept += [float(right.float().mean()) if len(right) else 0.0] * len(prompts)
            whole = fit(own[index], labels, self.options.ridge)
            said += [names[answer] for answer in whole.read(asked[index]).tolist()]
        return shown(given, blocks, said, {"decodable": decodable}, {"retain": tuple(kept)})


@dataclass(frozen=True)
class LinearReader:
    """A fitted map: (state - mean) / scale, times `weight` (width, classes), plus `bias` (classes,)."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def read(self, x: Tensor) -> Tensor:
        """The class of each state (n, width): (n,) long."""
        return ((x.double() - self.mean) / self.scale @ self.weight + self.bias).argmax(dim=1)


def fit(x: Tensor, labels: Tensor, ridge: float) -> LinearReader:
    """Ridge regression of states (n, width) on one-hot labels (n,), in float64.

    States are standardised, so that `ridge` is a share of their variance: the weights are
    (Z'Z / n + ridge)^-1 Z'(Y - mean Y) / n, and the bias is the mean of Y.
    """
    x, n = x.double(), len(x)
    mean = x.mean(dim=0)
    scale = x.std(dim=0, correction=0).clamp(min=1e-12)
    z = (x - mean) / scale
    y = torch.nn.functional.one_hot(labels).double()
    bias = y.mean(dim=0)
    system = z.T @ z / n + ridge * torch.eye(z.shape[1], dtype=torch.float64)
    return LinearReader(mean, scale, torch.linalg.solve(system, z.T @ (y - bias) / n), bias)


def _worded(rows: Sequence[QA]) -> list[tuple[QA, int]]:
    """Each question in all its wordings with its answer, and the row's number: wordings stay together."""
    return [
        (QA(question, row.answer, row.history), number)
        for number, row in enumerate(row for row in rows if not row.plain)
        for question in (row.question, *row.paraphrases)
    ]


def _among(given: Given, prompt: str, names: Sequence[str]) -> bool:
    """Whether one of the answers is right for a prompt."""
    assert given.hits is not None
    return bool(given.hits(given.sampling.together([prompt] * len(names), names)).any())
