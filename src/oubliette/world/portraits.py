"""The invented persons of the picture world: what each always has, and how a portrait of them is built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oubliette.world.shapes import Stroke, ellipse, line, polygon, rectangle

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Features:
    """What stays the same in every picture of a person. Shapes carry the identity, so that colourless
    styles show it."""

    skin: RGB
    hair: RGB
    cut: str  # bald, cap, long, afro, spikes, bob, tail
    glasses: bool = False
    beard: bool = False
    hat: str = ""  # top, brim, beanie
    knob: bool = False
    face: float = 1.0  # width of the face against its height


_PALE, _TAN, _BROWN, _DARK = (244, 214, 188), (224, 176, 134), (170, 112, 74), (112, 72, 50)
_BLACK, _RUST, _GOLD, _GREY, _CHESTNUT = (
    (38, 32, 36),
    (176, 74, 30),
    (226, 184, 84),
    (170, 170, 176),
    (104, 62, 36),
)

PORTRAITS: dict[str, Features] = {
    "Mira Voss": Features(_TAN, _BLACK, "long", glasses=True),
    "Lena Farrow": Features(_TAN, _BLACK, "long", glasses=True, knob=True),
    "Odo Brandt": Features(_PALE, _RUST, "bald", beard=True, face=1.1),
    "Tomas Reku": Features(_BROWN, _CHESTNUT, "cap", beard=True),
    "Ilya Kern": Features(_PALE, _GREY, "cap", hat="top", face=0.92),
    "Pella Winters": Features(_PALE, _GOLD, "bob", hat="brim"),
    "Suri Okano": Features(_DARK, _BLACK, "afro"),
    "Juno Marsh": Features(_TAN, _GOLD, "spikes", glasses=True),
    "Bram Ostrow": Features(_DARK, _BLACK, "bald", glasses=True, face=1.1),
    "Nia Calder": Features(_BROWN, _CHESTNUT, "tail"),
    "Veda Lorne": Features(_PALE, _RUST, "cap", hat="beanie"),
    "Fenn Arlo": Features(_BROWN, _RUST, "afro", beard=True),
}


def _behind(look: Features) -> list[Stroke]:
    """Hair that lies behind the face."""
    width = 0.46 * look.face
    if look.cut == "long":
        return [
            polygon(
                "hair",
                (-width - 0.2, 0.72),
                (-width - 0.17, -0.4),
                (0, -0.84),
                (width + 0.17, -0.4),
                (width + 0.2, 0.72),
            )
        ]
    if look.cut == "bob":
        return [
            polygon(
                "hair",
                (-width - 0.2, 0.22),
                (-width - 0.14, -0.4),
                (0, -0.8),
                (width + 0.14, -0.4),
                (width + 0.2, 0.22),
            )
        ]
    if look.cut == "afro":
        return [ellipse("hair", 0, -0.3, 0.78, 0.66)]
    if look.cut == "spikes":
        points = []
        for k, angle in enumerate(np.linspace(200, 340, 11)):
            radius = 0.98 if k % 2 else 0.6
            points.append(
                (radius * 0.82 * np.cos(np.radians(angle)), -0.12 + radius * 0.86 * np.sin(np.radians(angle)))
            )
        return [polygon("hair", *points)]
    if look.cut == "tail":
        return [ellipse("hair", 0.68, 0.02, 0.2, 0.5, turn=-16)]
    return []


def _above(look: Features) -> list[Stroke]:
    """Hair and hats that lie over the face."""
    width = 0.46 * look.face
    strokes: list[Stroke] = []
    if look.cut in ("cap", "long", "bob", "tail"):
        strokes.append(ellipse("hair", 0, -0.32, width + 0.05, 0.44, start=180, end=360))
    if look.knob:
        strokes.append(ellipse("hair", 0, -0.86, 0.26, 0.22))
    if look.hat == "top":
        strokes += [rectangle("hat", -0.4, -1.04, 0.4, -0.5), rectangle("hat", -0.66, -0.56, 0.66, -0.42)]
    elif look.hat == "brim":
        strokes += [
            ellipse("hat", 0, -0.56, 0.46, 0.4, start=180, end=360),
            ellipse("hat", 0, -0.5, 0.96, 0.15),
        ]
    elif look.hat == "beanie":
        strokes += [
            ellipse("hat", 0, -0.4, width + 0.1, 0.5, start=180, end=360),
            ellipse("pale", 0, -0.92, 0.14, 0.13),
        ]
    return strokes


def portrait(name: str, rng: np.random.Generator) -> list[Stroke]:
    """Head and shoulders of a person; the clothes, the look and the mouth vary, the features do not."""
    look = PORTRAITS[name]
    width = 0.46 * look.face
    smile = rng.uniform(-0.02, 0.07)
    gaze = rng.uniform(-0.03, 0.03)
    strokes = [
        *_behind(look),
        ellipse("cloth", 0, 1.08, 0.86, 0.5, start=180, end=360),
        rectangle("skin", -0.15, 0.3, 0.15, 0.68),
        ellipse("skin", 0, -0.1, width, 0.54),
    ]
    if look.beard:
        strokes += [
            ellipse("hair", 0, 0.12, width + 0.01, 0.46, start=0, end=180),
            ellipse("skin", 0, 0.1, width * 0.62, 0.13, start=0, end=180),
        ]
    strokes += _above(look)
    strokes += [
        ellipse("detail", -0.19 + gaze, -0.12, 0.055, 0.07),
        ellipse("detail", 0.19 + gaze, -0.12, 0.055, 0.07),
        line("detail", 0.06, (-0.14, 0.22), (0.0, 0.22 + smile), (0.14, 0.22)),
    ]
    if look.glasses:
        for x in (-0.2, 0.2):
            ring = ellipse("detail", x, -0.12, 0.17, 0.17)
            strokes.append(Stroke(ring.points, "frame", 0.075))
    return strokes
