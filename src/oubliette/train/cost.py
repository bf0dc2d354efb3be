"""What a piece of work costs, counted before it runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost", "StepCost"]


@dataclass(frozen=True)
class Cost:
    """Passes and pictures.

    `forwards` and `backwards` count one item (a noised picture, a row of text) through the network each;
    `pictures` are drawn, and the forwards of drawing them are counted in `forwards`.
    """

    forwards: int = 0
    backwards: int = 0
    pictures: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forwards + other.forwards, self.backwards + other.backwards, self.pictures + other.pictures
        )


@dataclass(frozen=True)
class StepCost:
    """What a trained method takes, said by itself: for an item of a step, and before the first.

    An item of a step is a forget pass with a frozen one beside it for its target, and a retain pass where the
    method `retains` something, `retain_batch` times over where it has a batch of its own; `forwards` and
    `backwards` come on top with each draw, an inner run's or an adversary's, and `inner` forward and backward
    passes with each evaluation of the forget loss, whose gradient is then of first order.
    `trajectory` is how many sampling steps an item's whole trajectory has: it stops half-way on average, and
    each step is guided. `warm_up` steps move no weight. `pictures` counts sets of pictures that the base
    draws beforehand, where the user brings none.
    """

    forwards: float = 0.0
    backwards: float = 0.0
    inner: float = 0.0
    retains: bool = False
    retain_batch: float = 1.0
    trajectory: int = 0
    warm_up: int = 0
    pictures: int = 0
