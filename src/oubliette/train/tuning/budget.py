"""What fine-tuning may spend: pictures, steps, batch, learning rate, rank, seed; all of it, to be printed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from oubliette.core.validation import MAX_SEED, StrictModel, validated
from oubliette.train.config import TrainConfig
from oubliette.train.cost import Cost

__all__ = ["Budget"]


class Budget(StrictModel):
    """What an attacker or a user may spend; the defaults are FreezeAsGuard's fine-tuning scripts, cut short.

    `pictures` are shown to whoever trains; each of `steps` updates sees `accumulation` micro-batches of
    `batch` items. `learning_rate` is the effective one (diffusers' `--scale_lr` multiplies the one it is
    given by batch, accumulation and processes). `clip` bounds the L2 norm of an update's gradient. `rank` and
    `alpha` (None: the rank) are LoRA's. A field of zero is refused.
    """

    pictures: int = Field(default=16, ge=1)
    steps: int = Field(default=100, ge=1)
    batch: int = Field(default=4, ge=1)
    accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warm_up: int = Field(default=0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    rank: int = Field(default=4, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    @classmethod
    def of(cls, where: str = "budget", **fields: Any) -> Budget:
        """A budget of these fields; UserError, opening with `where`, for an unknown field or a zero."""
        return validated(cls, fields, where)

    def changed(self, where: str = "budget", **fields: Any) -> Budget:
        """This budget with some fields changed, checked like a new one."""
        return validated(type(self), {**self.model_dump(), **fields}, where)

    def train_config(self) -> TrainConfig:
        """The loop's settings."""
        shared = set(TrainConfig.model_fields) & set(type(self).model_fields)
        return TrainConfig(**self.model_dump(include=shared))

    def cost(self, *, prior: bool = False) -> Cost:
        """Passes through the network, twice as many items with a prior set beside the pictures."""
        items = self.steps * self.batch * self.accumulation * (2 if prior else 1)
        return Cost(forwards=items, backwards=items)
