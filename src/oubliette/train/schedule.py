"""The learning rate of each step."""

from __future__ import annotations

import math

from oubliette.train.config import TrainConfig

__all__ = ["learning_rate"]


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of update `step` (from 0): a linear warm-up to the full rate, then the schedule.

    `linear` and `cosine` fall from the full rate after the warm-up to 0 at step `config.steps`, which is
    never taken, and stay at `config.floor` of the full rate once they come to it.
    """
    if step < config.warm_up:
        return config.learning_rate * (step + 1) / config.warm_up
    gone = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    shapes = {"constant": 1.0, "linear": 1.0 - gone, "cosine": 0.5 * (1.0 + math.cos(math.pi * gone))}
    return config.learning_rate * max(config.floor, shapes[config.schedule])
