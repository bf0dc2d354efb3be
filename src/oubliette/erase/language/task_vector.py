"""Task vector: learn what is to go once more, and go the other way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from oubliette.core.validation import StrictModel
from oubliette.erase.edit import Edit

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.erase.request import ErasureRequest

__all__ = ["TaskVector"]


class TaskVector:
    """theta - scale (theta_f - theta), where theta_f is the model fine-tuned on the forget set.

    Fine-tuning is full and of the scope's tensors alone; the retain set has no part. Solved: one edit a
    tensor. Papers: Ilharco et al., ICLR 2023 (2212.04089); as NegTV a baseline of MUSE (2407.06460).
    """

    name: ClassVar[str] = "task-vector"
    backend: ClassVar[str] = "language"
    solution: ClassVar[str] = "solved"
    paper: ClassVar[str] = "Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023 (2212.04089)"

    class Options(StrictModel):
        """The task vector's options; the defaults are MUSE's, of five epochs of 400 rows."""

        scale: float = Field(default=1.0, gt=0, description="how far to go the other way")
        steps: int = Field(default=65, ge=1, description="updates of fine-tuning on the forget set")
        batch: int = Field(default=4, ge=1, description="rows in memory at once")
        accumulation: int = Field(default=8, ge=1, description="times this many a step")
        learning_rate: float = Field(default=1e-5, gt=0, description="of AdamW")
        schedule: Literal["constant", "cosine", "linear"] = Field(default="cosine", description="its course")

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        self.options, self.request = options, request

    def solve(self, model: LanguageBackend, data: LanguageData, scope: Sequence[str]) -> Iterator[Edit]:
        """Fine-tune, take the difference, put every bit back, and yield the difference turned around."""
        from oubliette.train.tasks.answering import Answering
        from oubliette.train.tuning.budget import Budget
        from oubliette.train.tuning.tune import tune

        budget = Budget(
            pictures=len(data.forget),
            weight_decay=0.0,
            seed=data.seed,
            **self.options.model_dump(exclude={"scale"}),
        )
        wanted = set(scope)
        with torch.enable_grad():  # edits are asked for where none is on
            moved = tune(
                model,
                Answering(model, data.forget_rows),
                "full",
                budget,
                frozen=[name for name in model.tensors() if name not in wanted],
                delta=True,
            ).delta
        for name in scope:
            yield Edit(name, delta=-self.options.scale * moved[name])
