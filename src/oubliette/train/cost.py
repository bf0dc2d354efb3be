"""What a piece of work costs, counted before it runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost"]


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
