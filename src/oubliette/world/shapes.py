"""Objects of the picture world as vector shapes.

A shape is a list of `Stroke`s: closed polygons or open lines in a unit square [-1, 1]^2 (y downwards), each
with the
*role* that decides its colour. Styles decide how strokes are painted; shapes know nothing of styles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Points = np.ndarray


@dataclass(frozen=True)
class Stroke:
    """One primitive: `points` (n, 2); `role` names its paint; `width` > 0 makes it an open line of that
    width."""

    points: Points
    role: str
    width: float = 0.0


def polygon(role: str, *points: tuple[float, float]) -> Stroke:
    return Stroke(np.array(points, dtype=np.float64), role)


def rectangle(role: str, left: float, top: float, right: float, bottom: float) -> Stroke:
    return polygon(role, (left, top), (right, top), (right, bottom), (left, bottom))


def line(role: str, width: float, *points: tuple[float, float]) -> Stroke:
    return Stroke(np.array(points, dtype=np.float64), role, width)


def ellipse(
    role: str,
    x: float,
    y: float,
    rx: float,
    ry: float,
    *,
    start: float = 0.0,
    end: float = 360.0,
    turn: float = 0.0,
) -> Stroke:
    """An ellipse, or the sector of one between two angles (degrees); `turn` rotates it about its centre."""
    angles = np.radians(np.linspace(start, end, 25))
    points = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
    turn = np.radians(turn)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return Stroke(points @ rotation + (x, y), role)


def _wheel(x: float, y: float, radius: float) -> list[Stroke]:
    return [ellipse("detail", x, y, radius, radius), ellipse("light", x, y, radius * 0.45, radius * 0.45)]


def car(rng: np.random.Generator) -> list[Stroke]:
    roof = rng.uniform(-0.52, -0.4)
    back = rng.uniform(-0.5, -0.35)
    return [
        polygon("body", (-0.62, 0.02), (back, roof), (0.28, roof), (0.58, 0.02)),
        polygon("body", (-0.95, 0.1), (-0.88, 0.0), (0.8, 0.0), (0.95, 0.14), (0.95, 0.42), (-0.95, 0.42)),
        polygon("glass", (-0.48, 0.0), (back + 0.04, roof + 0.1), (-0.06, roof + 0.1), (-0.06, 0.0)),
        polygon("glass", (0.04, 0.0), (0.04, roof + 0.1), (0.24, roof + 0.1), (0.44, 0.0)),
        *_wheel(-0.52, 0.45, 0.24),
        *_wheel(0.54, 0.45, 0.24),
    ]


def truck(rng: np.random.Generator) -> list[Stroke]:
    top = rng.uniform(-0.75, -0.6)
    return [
        rectangle("body", -0.95, top, 0.3, 0.36),
        polygon("dark", (0.34, 0.36), (0.34, -0.3), (0.7, -0.3), (0.92, 0.02), (0.92, 0.36)),
        polygon("glass", (0.44, 0.0), (0.44, -0.2), (0.66, -0.2), (0.8, 0.0)),
        line("dark", 0.05, (-0.55, top + 0.08), (-0.55, 0.28)),
        line("dark", 0.05, (-0.12, top + 0.08), (-0.12, 0.28)),
        *_wheel(-0.62, 0.42, 0.2),
        *_wheel(-0.15, 0.42, 0.2),
        *_wheel(0.62, 0.42, 0.2),
    ]


def boat(rng: np.random.Generator) -> list[Stroke]:
    tip = rng.uniform(-0.95, -0.82)
    return [
        line("detail", 0.06, (0.0, 0.3), (0.0, tip)),
        polygon("pale", (0.07, tip + 0.06), (0.07, 0.2), (0.72, 0.2)),
        polygon("light", (-0.07, tip + 0.24), (-0.07, 0.2), (-0.55, 0.2)),
        polygon("body", (-0.92, 0.3), (0.92, 0.3), (0.58, 0.76), (-0.62, 0.76)),
    ]


def plane(rng: np.random.Generator) -> list[Stroke]:
    sweep = rng.uniform(0.5, 0.64)
    return [
        polygon("dark", (-0.02, -0.08), (-0.3, -sweep), (-0.1, -sweep), (0.34, -0.08)),
        ellipse("body", 0.0, 0.0, 0.95, 0.2),
        polygon("body", (-0.6, -0.05), (-0.95, -0.5), (-0.7, -0.5), (-0.38, -0.1)),
        polygon("dark", (-0.02, 0.06), (-0.34, sweep + 0.1), (-0.1, sweep + 0.1), (0.38, 0.06)),
        ellipse("glass", 0.66, -0.05, 0.14, 0.08),
    ]


def cat(rng: np.random.Generator) -> list[Stroke]:
    tail = rng.uniform(0.6, 0.85)
    return [
        line("dark", 0.13, (0.3, 0.75), (0.62, 0.7), (tail, 0.4), (tail - 0.06, 0.1)),
        ellipse("body", 0.0, 0.42, 0.45, 0.5),
        polygon("body", (-0.44, -0.22), (-0.4, -0.88), (-0.06, -0.5)),
        polygon("body", (0.44, -0.22), (0.4, -0.88), (0.06, -0.5)),
        ellipse("body", 0.0, -0.26, 0.46, 0.38),
        ellipse("pale", 0.0, 0.52, 0.22, 0.32),
        ellipse("pale", -0.18, -0.3, 0.1, 0.11),
        ellipse("pale", 0.18, -0.3, 0.1, 0.11),
        ellipse("detail", -0.17, -0.3, 0.05, 0.08),
        ellipse("detail", 0.19, -0.3, 0.05, 0.08),
        polygon("detail", (-0.07, -0.14), (0.07, -0.14), (0.0, -0.04)),
    ]


def bird(rng: np.random.Generator) -> list[Stroke]:
    tip = rng.uniform(-0.05, 0.15)
    return [
        line("detail", 0.06, (-0.08, 0.5), (-0.12, 0.9)),
        line("detail", 0.06, (0.16, 0.5), (0.14, 0.9)),
        polygon("dark", (-0.4, 0.1), (-0.98, tip - 0.3), (-0.92, tip + 0.14), (-0.38, 0.34)),
        ellipse("body", 0.0, 0.18, 0.56, 0.42, turn=14),
        ellipse("body", 0.46, -0.34, 0.3, 0.3),
        polygon("accent", (0.7, -0.44), (0.99, -0.3), (0.7, -0.2)),
        ellipse("dark", -0.1, 0.16, 0.36, 0.2, turn=24),
        ellipse("pale", 0.52, -0.4, 0.1, 0.1),
        ellipse("detail", 0.54, -0.4, 0.055, 0.055),
    ]


def fish(rng: np.random.Generator) -> list[Stroke]:
    fin = rng.uniform(0.48, 0.62)
    return [
        polygon("dark", (-0.42, 0.0), (-0.96, -0.42), (-0.82, 0.0), (-0.96, 0.42)),
        polygon("dark", (-0.2, -0.28), (0.1, -fin - 0.1), (0.3, -0.28)),
        polygon("dark", (-0.05, 0.3), (0.08, fin), (0.26, 0.28)),
        ellipse("body", 0.18, 0.0, 0.74, 0.38),
        line("light", 0.06, (0.4, -0.3), (0.3, 0.0), (0.4, 0.3)),
        line("light", 0.06, (0.0, -0.24), (-0.08, 0.0), (0.0, 0.24)),
        ellipse("pale", 0.64, -0.08, 0.12, 0.12),
        ellipse("detail", 0.66, -0.08, 0.06, 0.06),
    ]


def house(rng: np.random.Generator) -> list[Stroke]:
    door = rng.uniform(-0.3, 0.12)
    return [
        rectangle("body", -0.68, -0.14, 0.68, 0.78),
        polygon("dark", (-0.92, -0.12), (0.0, -0.88), (0.92, -0.12)),
        rectangle("detail", door, 0.24, door + 0.3, 0.78),
        rectangle("glass", -0.56, 0.04, -0.3, 0.32)
        if door > -0.12
        else rectangle("glass", 0.24, 0.04, 0.54, 0.34),
    ]


def tower(rng: np.random.Generator) -> list[Stroke]:
    waist = rng.uniform(0.2, 0.27)
    return [
        polygon("body", (-waist, -0.5), (waist, -0.5), (0.4, 0.92), (-0.4, 0.92)),
        polygon("pale", (-0.26, -0.12), (0.26, -0.12), (0.3, 0.14), (-0.3, 0.14)),
        polygon("pale", (-0.33, 0.42), (0.33, 0.42), (0.37, 0.68), (-0.37, 0.68)),
        rectangle("detail", -0.34, -0.6, 0.34, -0.48),
        rectangle("accent", -0.18, -0.8, 0.18, -0.6),
        polygon("dark", (-0.26, -0.78), (0.0, -0.99), (0.26, -0.78)),
    ]


def tree(rng: np.random.Generator) -> list[Stroke]:
    lean = rng.uniform(-0.08, 0.08)
    return [
        polygon("wood", (-0.13, 0.1), (0.13, 0.1), (0.2, 0.95), (-0.2, 0.95)),
        ellipse("body", -0.4 + lean, -0.1, 0.4, 0.36),
        ellipse("body", 0.4 + lean, -0.1, 0.4, 0.36),
        ellipse("body", lean, -0.5, 0.46, 0.42),
        ellipse("dark", 0.16 + lean, -0.06, 0.22, 0.14),
        ellipse("light", -0.14 + lean, -0.56, 0.18, 0.14),
    ]


def flower(rng: np.random.Generator) -> list[Stroke]:
    first = rng.uniform(0, 60)
    petals = [
        ellipse(
            "body",
            0.44 * np.cos(np.radians(first + 60 * k)),
            -0.36 + 0.44 * np.sin(np.radians(first + 60 * k)),
            0.26,
            0.19,
            turn=-(first + 60 * k),
        )
        for k in range(6)
    ]
    return [
        line("leaf", 0.09, (0.0, 0.0), (0.04, 0.95)),
        ellipse("leaf", 0.26, 0.62, 0.26, 0.1, turn=24),
        ellipse("leaf", -0.2, 0.74, 0.24, 0.1, turn=-24),
        *petals,
        ellipse("accent", 0.0, -0.36, 0.22, 0.22),
    ]


def cup(rng: np.random.Generator) -> list[Stroke]:
    handle = rng.uniform(0.26, 0.34)
    return [
        ellipse("dark", 0.55, 0.12, handle, 0.34),
        ellipse("ground", 0.55, 0.12, handle - 0.14, 0.2),
        polygon("body", (-0.62, -0.4), (0.56, -0.4), (0.44, 0.78), (-0.5, 0.78)),
        ellipse("light", -0.03, -0.4, 0.59, 0.15),
        ellipse("detail", -0.03, -0.39, 0.46, 0.09),
        line("pale", 0.07, (-0.2, -0.6), (-0.12, -0.74), (-0.2, -0.92)),
        line("pale", 0.07, (0.14, -0.6), (0.22, -0.74), (0.14, -0.92)),
    ]


def bicycle(rng: np.random.Generator) -> list[Stroke]:
    seat = rng.uniform(-0.4, -0.3)
    return [
        ellipse("detail", -0.52, 0.36, 0.42, 0.42),
        ellipse("ground", -0.52, 0.36, 0.31, 0.31),
        ellipse("detail", 0.52, 0.36, 0.42, 0.42),
        ellipse("ground", 0.52, 0.36, 0.31, 0.31),
        line("body", 0.12, (-0.52, 0.36), (-0.2, seat + 0.2), (0.34, seat + 0.2), (0.0, 0.4), (-0.52, 0.36)),
        line("body", 0.12, (0.0, 0.4), (-0.26, seat)),
        line("body", 0.12, (0.52, 0.36), (0.32, -0.5), (0.56, -0.58)),
        line("detail", 0.13, (-0.42, seat), (-0.12, seat)),
    ]


def umbrella(rng: np.random.Generator) -> list[Stroke]:
    hook = rng.uniform(0.18, 0.26)
    return [
        line("detail", 0.08, (0.0, -0.2), (0.0, 0.78), (hook * 0.5, 0.9), (hook, 0.78)),
        ellipse("body", 0.0, -0.05, 0.92, 0.72, start=180, end=360),
        polygon("dark", (-0.3, -0.05), (0.0, -0.78), (0.3, -0.05)),
        line("detail", 0.06, (0.0, -0.76), (0.0, -0.95)),
    ]


def mushroom(rng: np.random.Generator) -> list[Stroke]:
    foot = rng.uniform(0.22, 0.32)
    return [
        polygon("pale", (-0.2, 0.0), (0.2, 0.0), (foot, 0.86), (-foot, 0.86)),
        ellipse("body", 0.0, 0.1, 0.86, 0.86, start=180, end=360),
        ellipse("pale", -0.4, -0.2, 0.15, 0.13),
        ellipse("pale", 0.06, -0.46, 0.17, 0.14),
        ellipse("pale", 0.45, -0.12, 0.14, 0.12),
    ]


SHAPES: dict[str, Callable[[np.random.Generator], list[Stroke]]] = {
    shape.__name__: shape
    for shape in (
        car,
        truck,
        boat,
        plane,
        cat,
        bird,
        fish,
        house,
        tower,
        tree,
        flower,
        cup,
        bicycle,
        umbrella,
        mushroom,
    )
}
