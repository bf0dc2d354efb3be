"""The typed settings of a training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from oubliette.core.validation import StrictModel

__all__ = ["Beta", "TrainConfig"]

Beta = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running mean of gradients is kept from one update to the next."""


class TrainConfig(StrictModel):
    """How long, how fast and in what precision a loop trains; unknown keys are refused.

    `batch` items are drawn for each of `accumulation` micro-batches a step, all processes taken together.
    `learning_rate` is the greatest the schedule reaches, after `warm_up` steps; `floor` is the share of it
    that a schedule does not go below then. `clip` bounds the L2 norm of the combined update, `clip_roles`
    that of each role's gradient where the objective does not say. `retain_weight` multiplies the weight of
    every retain role (the mu of gradient projection).
    """

    steps: int = Field(default=100, ge=1)
    batch: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warm_up: int = Field(default=0, ge=0)
    floor: float = Field(default=0.0, ge=0, le=1)
    accumulation: int = Field(default=1, ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    clip: float | None = Field(default=None, gt=0)
    clip_roles: float | None = Field(default=None, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)
    log_every: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=0, ge=0)
