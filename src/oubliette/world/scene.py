"""A scene of the picture world: what is in one picture, drawn at random and painted deterministically."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from oubliette.world import facts
from oubliette.world.portraits import PORTRAITS, portrait
from oubliette.world.shapes import SHAPES, Stroke
from oubliette.world.styles import CANVAS, PAINTERS, RGB, SIDE, Sheet

_BACKDROPS: tuple[RGB, ...] = (
    (238, 238, 232),
    (206, 222, 236),
    (224, 236, 208),
    (246, 226, 206),
    (232, 216, 236),
    (216, 216, 220),
)
_CLOTHS: tuple[RGB, ...] = (
    (70, 96, 140),
    (130, 66, 72),
    (74, 118, 84),
    (150, 130, 70),
    (96, 80, 120),
    (90, 90, 94),
)
_HATS: tuple[RGB, ...] = ((52, 48, 56), (92, 44, 48), (44, 66, 84))


@dataclass(frozen=True)
class Scene:
    """The content of one picture: an object with a colour or a person, a style, and the seed of everything
    else.

    `object` or `person` is "none", never both; `colour` is "none" for persons. `seed` fixes place, size,
    pose,
    backdrop and grain.
    """

    object: str
    person: str
    style: str
    colour: str
    seed: int

    @property
    def subject(self) -> str:
        return self.object if self.person == "none" else self.person

    @property
    def shown_colour(self) -> str:
        """The colour a judge can see: "none" for persons and in styles that have no colour."""
        return "none" if self.style in facts.COLOURLESS_STYLES else self.colour

    def labels(self) -> dict[str, str]:
        return {
            "object": self.object,
            "style": self.style,
            "colour": self.shown_colour,
            "person": self.person,
        }


def random_scene(
    rng: np.random.Generator,
    *,
    objects: Iterable[str] | None = None,
    styles: Iterable[str] | None = None,
    persons: Iterable[str] | None = None,
    portraits: float = 0.42,
) -> Scene:
    """Draws a scene from the given names (default: everything known); `portraits` is the share of persons.

    An empty list of objects or persons leaves the other kind alone.
    """
    object_names = facts.names("object") if objects is None else list(objects)
    person_names = facts.names("person") if persons is None else list(persons)
    style_names = facts.names("style") if styles is None else list(styles)
    style = style_names[rng.integers(len(style_names))]
    seed = int(rng.integers(2**31))
    if person_names and (not object_names or rng.random() < portraits):
        return Scene("none", person_names[rng.integers(len(person_names))], style, "none", seed)
    colours = list(facts.COLOURS)
    name = object_names[rng.integers(len(object_names))]
    return Scene(name, "none", style, colours[rng.integers(len(colours))], seed)


def _shade(colour: RGB, factor: float) -> RGB:
    red, green, blue = (
        int(np.clip(c * factor if factor <= 1 else c + (255 - c) * (factor - 1), 0, 255)) for c in colour
    )
    return red, green, blue


def _palette(scene: Scene, rng: np.random.Generator) -> dict[str, RGB]:
    cloth = _CLOTHS[rng.integers(len(_CLOTHS))]
    body = facts.COLOURS.get(scene.colour, cloth)
    body = _shade(body, float(rng.uniform(0.9, 1.1)))
    palette: dict[str, RGB] = {
        "body": body,
        "dark": _shade(body, 0.68),
        "light": _shade(body, 1.5),
        "pale": (246, 242, 232),
        "glass": (176, 214, 232),
        "detail": (44, 42, 48),
        "accent": (240, 190, 70) if scene.colour not in ("yellow", "orange") else (150, 80, 40),
        "wood": (120, 82, 50),
        "leaf": (70, 130, 70),
        "cloth": cloth,
        "hat": _HATS[rng.integers(len(_HATS))],
        "frame": (30, 28, 34),
    }
    if scene.person != "none":
        look = PORTRAITS[scene.person]
        palette["skin"], palette["hair"] = look.skin, look.hair
        palette["body"] = look.hair if sum(look.hair) > 240 else (200, 190, 200)
    return palette


def _place(strokes: list[Stroke], rng: np.random.Generator, *, person: bool) -> list[Stroke]:
    """Moves strokes from the unit square onto the canvas: size, stretch, tilt, mirror and place vary."""
    size = rng.uniform(0.76, 0.9) if person else rng.uniform(0.68, 0.92)
    stretch = rng.uniform(0.95, 1.05) if person else rng.uniform(0.9, 1.1)
    tilt = np.radians(rng.uniform(-5, 5) if person else rng.uniform(-9, 9))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    slack = (1.0 - size) * 0.9 + 0.03
    shift = np.array(
        [rng.uniform(-slack, slack), rng.uniform(-slack, slack) * 0.8 + (0.06 if person else 0.0)]
    )
    matrix = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    matrix = np.diag([mirror * stretch, 1 / stretch]) @ matrix * size
    half = CANVAS / 2
    return [Stroke((s.points @ matrix + shift) * half + half, s.role, s.width * size * half) for s in strokes]


def paint(scene: Scene) -> np.ndarray:
    """The picture of a scene: uint8 (64, 64, 3), the same bits for the same scene."""
    rng = np.random.default_rng(scene.seed)
    person = scene.person != "none"
    strokes = portrait(scene.person, rng) if person else SHAPES[scene.object](rng)
    sheet = Sheet(
        strokes=_place(strokes, rng, person=person),
        palette=_palette(scene, rng),
        backdrop=_BACKDROPS[rng.integers(len(_BACKDROPS))],
        rng=rng,
    )
    picture = PAINTERS[scene.style](sheet)
    assert picture.shape == (SIDE, SIDE, 3)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
