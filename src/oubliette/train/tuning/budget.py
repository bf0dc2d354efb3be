"""What fine-tuning may spend: pictures, steps, batch, learning rate, rank, seed; all of it, to be printed."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from oubliette.core.validation import MAX_SEED, validated
from oubliette.train.config import TrainConfig, Updates
from oubliette.train.cost import Cost

__all__ = ["Budget"]


class Budget(Updates):
    """What an attacker or a user may spend; the defaults are FreezeAsGuard's fine-tuning scripts, cut short.

    `pictures` are shown to whoever trains. `learning_rate` is the effective one (diffusers' `--scale_lr`
    multiplies the one it is given by batch, accumulation and processes). `rank` and `alpha` (None: the rank)
    are LoRA's. A field of zero is refused.
    """

    pictures: int = Field(default=16, ge=1)
    clip: float | None = Field(default=1.0, gt=0)
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
        return TrainConfig(**self.model_dump(include=set(Updates.model_fields)))

    def cost(self, *, prior: bool = False) -> Cost:
        """Passes through the network, twice as many items with a prior set beside the pictures."""
        items = self.steps * self.batch * self.accumulation * (2 if prior else 1)
        return Cost(forwards=items, backwards=items)
