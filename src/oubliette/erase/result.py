"""What an erasure leaves in memory: the changed model, how that came about, and the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from oubliette.recipe import Recipe
from oubliette.train.processes import Processes
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oubliette.backends.base import Backend
    from oubliette.backends.files.lora_form import Factors

__all__ = ["PHASES", "AttachedEdit", "AttachedWeights", "EraseResult", "Moved", "Reversible"]

PHASES = ("load", "prepare", "optimise", "save", "evaluate")


class Reversible(Protocol):
    """What an erasure changed, and the way back."""

    @property
    def names(self) -> list[str]:
        """The model's tensors that were free to move."""
        ...

    def originals(self) -> AbstractContextManager[None]:
        """The model as it was before, inside the block."""
        ...

    def restore(self) -> None:
        """The model as it was before, for good."""


class Moved(Reversible, Protocol):
    """What an erasure changed and may be saved."""

    def exact(self) -> AbstractContextManager[None]:
        """The model as it is before its weights are rounded to 16 bits, inside the block."""
        ...

    @property
    def factors(self) -> Factors | None:
        """The LoRA that the change is by construction, None where it is none."""
        ...


class AttachedEdit:
    """An attachment: no tensor of the model moves, and what was attached before, if anything, is the way
    back.
    """

    names: ClassVar[list[str]] = []
    factors = None

    def __init__(self, model: Any) -> None:
        self._model, self._before = model, model.attachment

    def originals(self) -> AbstractContextManager[None]:
        held: AbstractContextManager[None] = self._model.holding(self._before)
        return held

    def exact(self) -> AbstractContextManager[None]:
        return nullcontext()

    plain = exact

    def restore(self) -> None:
        self._model.hold(self._before)


class AttachedWeights(Weights):
    """The parameters of an attachment under training; the original is the model as it was without it."""

    def __init__(self, named: Mapping[str, nn.Parameter], held: AttachedEdit) -> None:
        super().__init__(named)
        self._held = held

    @contextmanager
    def originals(self) -> Iterator[None]:
        with self._held.originals():
            yield


@dataclass
class EraseResult:
    """What an erasure leaves in memory: the model, changed in place, and how that came about.

    `seconds` gives the time of each of PHASES; who loads and evaluates adds the time of that. `log` holds the
    loop's records, one a logged step ([] where nothing was trained). `changed` names the tensors that were
    free to move (none for an attached method). `scope` says how a measured scope chose them.
    """

    model: Backend
    recipe: Recipe
    weights: Moved
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    log: list[dict[str, Any]] = field(default_factory=list)
    scope: dict[str, Any] | None = None

    @property
    def losses(self) -> dict[str, list[float]]:
        """Each role's loss at the logged steps in which it took part."""
        found: dict[str, list[float]] = {}
        for record in self.log:
            for role, loss in record.get("loss", {}).items():
                found.setdefault(role, []).append(loss)
        return found

    @property
    def changed(self) -> list[str]:
        """Names of the tensors that were free to move."""
        return self.weights.names

    def undo(self) -> None:
        """Give every tensor its original bits back; the model is as it was before."""
        self.weights.restore()

    def record(self) -> dict[str, Any]:
        """What `oubliette.json` says of this erasure: method, concepts, seed, recipe, times, losses."""
        concepts = self.recipe.concepts
        return {
            "method": self.recipe.method["name"],
            "concepts": [concept.name for concept in concepts],
            "anchors": [concept.anchor for concept in concepts],
            "seed": self.recipe.seed,
            "recipe": self.recipe.model_dump(mode="json"),
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
            "losses": {role: losses[-1] for role, losses in self.losses.items()},
            **({} if self.scope is None else {"scope": self.scope}),
        }

    def save(
        self,
        folder: Path | str,
        *,
        form: str | None = None,
        base: Backend | None = None,
        rank: int | None = None,
        energy: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Save the model with its record to a new folder, in `form` (full, delta, lora) or the recipe's own.

        `rank` or `energy` bounds a LoRA, `dtype` is what changed tensors are written in: by default as the
        recipe has it. Under a multi-process launch the main process writes and the others wait.
        """
        start = time.perf_counter()
        processes = Processes(self.model.device)
        asked = self.recipe.save
        bounds = (asked.rank, asked.energy) if rank is None and energy is None else (rank, energy)
        form, factors = form or asked.form, self.weights.factors
        if processes.is_main:
            # What was trained as a LoRA is one, whatever its weights were rounded to.
            with nullcontext() if form == "lora" and factors is not None else self.weights.exact():
                self.model.save(
                    folder,
                    form=form,
                    base=base,
                    record=self.record(),
                    dtype=dtype or asked.torch_dtype(),
                    rank=bounds[0],
                    energy=bounds[1],
                    factors=factors,
                )
        processes.wait()
        self.seconds["save"] += time.perf_counter() - start
