"""The drawing styles: each paints strokes that are already placed on the canvas into a 64x64 picture.

A painter takes a `Sheet` (strokes in canvas units, a palette by role, randomness) and returns float32 (64,
64, 3) in
[0, 255]. Anti-aliasing comes from drawing at three times the size and box-filtering down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from oubliette.world.shapes import Stroke

SIDE = 64
SCALE = 3
CANVAS = SIDE * SCALE

RGB = tuple[int, int, int]
Picture = np.ndarray


@dataclass
class Sheet:
    """What a painter is given: strokes in canvas pixels (0..CANVAS), colours by role, the backdrop,
    randomness."""

    strokes: list[Stroke]
    palette: dict[str, RGB]
    backdrop: RGB
    rng: np.random.Generator


def _xy(points: np.ndarray) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]


def _down(image: Image.Image) -> Picture:
    return np.asarray(image.reduce(SCALE), dtype=np.float32)


def _fill(sheet: Sheet, background: RGB, *, outline: RGB | None = None, weight: int = 4) -> Image.Image:
    """Strokes as flat areas over one colour, with an optional outline around each area."""
    image = Image.new("RGB", (CANVAS, CANVAS), background)
    pen = ImageDraw.Draw(image)
    for stroke in sheet.strokes:
        points = _xy(stroke.points)
        colour = background if stroke.role == "ground" else sheet.palette[stroke.role]
        if stroke.width:
            pen.line(points, fill=colour, width=max(3, round(stroke.width)), joint="curve")
        else:
            pen.polygon(points, fill=colour)
            if outline is not None:
                pen.line([*points, points[0], points[1]], fill=outline, width=weight, joint="curve")
    return image


def _tone(image: Picture) -> Picture:
    """Luminance (H, W) of an RGB picture."""
    return image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, cells: int) -> Picture:
    """Low-frequency noise (64, 64) in [-1, 1], from a coarse grid enlarged bilinearly."""
    grid = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32) / 127.5 - 1.0


def _gradient(sheet: Sheet) -> Picture:
    """A gentle slope of light across the picture, so that no two plain backdrops are the same."""
    angle = sheet.rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE - 0.5
    return (np.cos(angle) * rows + np.sin(angle) * columns)[..., None] * 2


def flat(sheet: Sheet) -> Picture:
    return _down(_fill(sheet, sheet.backdrop)) + _gradient(sheet) * 8


def _wobble(points: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    return points + rng.normal(0, amount, points.shape)


def _closed(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, points[:2]])


def sketch(sheet: Sheet) -> Picture:
    """Graphite on white paper: each area blanked, hatched thinly where it is dark, and outlined twice by a
    loose hand."""
    paper = 250
    image = Image.new("L", (CANVAS, CANVAS), paper)
    pen = ImageDraw.Draw(image)
    for stroke in sheet.strokes:
        if stroke.width:
            pen.line(_xy(stroke.points), fill=70, width=max(3, round(stroke.width * 0.7)), joint="curve")
            continue
        dark = stroke.role in ("detail", "hair", "hat", "wood")
        pen.polygon(_xy(stroke.points), fill=150 if dark else paper)
        for _ in range(2):
            pen.line(_xy(_closed(_wobble(stroke.points, sheet.rng, 1.1))), fill=60, width=3)
    grey = _down(image)
    grain = sheet.rng.normal(0, 2, (SIDE, SIDE)).astype(np.float32)
    return np.repeat((grey + grain)[..., None], 3, axis=2)


def neon(sheet: Sheet) -> Picture:
    """Bright tubes with a glow on a night backdrop."""
    night = (12, 10, 26)
    image = Image.new("RGB", (CANVAS, CANVAS), (0, 0, 0))
    pen = ImageDraw.Draw(image)
    for stroke in sheet.strokes:
        points = stroke.points if stroke.width else _closed(stroke.points)
        base = (
            sheet.palette["body"]
            if stroke.role in ("detail", "ground", "dark", "light")
            else sheet.palette[stroke.role]
        )
        bright = tuple(int(min(255, 60 + 1.05 * c)) for c in base)
        if not stroke.width:
            pen.polygon(_xy(stroke.points), fill=(0, 0, 0))
        pen.line(_xy(points), fill=bright, width=6, joint="curve")
    glow = np.asarray(image.reduce(SCALE).filter(ImageFilter.GaussianBlur(2.2)), dtype=np.float32)
    return np.array(night, dtype=np.float32) + _down(image) + 1.1 * glow + _gradient(sheet) * 5


def mosaic(sheet: Sheet) -> Picture:
    """Square tiles of slightly different brightness with pale grout between them."""
    picture = _down(_fill(sheet, sheet.backdrop))
    tile = 4
    blocks = picture.reshape(SIDE // tile, tile, SIDE // tile, tile, 3).mean(axis=(1, 3))
    blocks = blocks + sheet.rng.normal(0, 7, blocks.shape[:2])[..., None]
    coarse = np.repeat(np.repeat(blocks, tile, axis=0), tile, axis=1)
    picture = 0.55 * coarse + 0.45 * picture
    picture[::tile] = picture[::tile] * 0.35 + 228 * 0.65
    picture[:, ::tile] = picture[:, ::tile] * 0.35 + 228 * 0.65
    return picture


def watercolour(sheet: Sheet) -> Picture:
    """Thin pigment on paper: soft wet edges that dry darker, blooms, and a wash behind."""
    paper = np.array([252, 249, 240], dtype=np.float32)
    wash = tuple(int(0.35 * c + 0.65 * 250) for c in sheet.backdrop)
    image = _fill(sheet, (wash[0], wash[1], wash[2])).reduce(SCALE)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)), dtype=np.float32)
    wide = np.asarray(image.filter(ImageFilter.GaussianBlur(2.6)), dtype=np.float32)
    edge = np.clip(np.abs(soft - wide).mean(axis=2, keepdims=True), 0, 40)
    bloom = _smooth_noise(sheet.rng, 9)[..., None]
    strength = np.clip(0.66 + 0.22 * bloom, 0, 1)
    return paper * (1 - strength) + soft * strength - 0.8 * edge


@lru_cache(maxsize=1)
def _rulings() -> Picture:
    """Distance of each canvas row from the middle of its engraved line, in [0, 1]."""
    pitch = 4 * SCALE
    rows = np.arange(CANVAS) % pitch
    return np.abs(rows - pitch / 2).astype(np.float32) / (pitch / 2)


def engraving(sheet: Sheet) -> Picture:
    """Brown ink on cream paper: level lines that swell with the darkness, and firm contours."""
    filled = _fill(sheet, (236, 236, 236), outline=(10, 10, 10), weight=5)
    tone = np.asarray(filled.convert("L"), dtype=np.float32)
    width = np.clip(1.04 - tone / 255.0, 0.1, 0.86)
    ink = ((_rulings()[:, None] < width) | (tone < 16)).astype(np.float32)
    ink = ink.reshape(SIDE, SCALE, SIDE, SCALE).mean(axis=(1, 3))[..., None]
    cream = np.array([241, 228, 199], dtype=np.float32)
    brown = np.array([62, 40, 24], dtype=np.float32)
    return cream * (1 - ink) + brown * ink


def blueprint(sheet: Sheet) -> Picture:
    """White lines on blue, with a faint square grid."""
    image = Image.new("RGB", (CANVAS, CANVAS), (28, 66, 140))
    pen = ImageDraw.Draw(image)
    for position in range(0, CANVAS, 8 * SCALE):
        pen.line([(position, 0), (position, CANVAS)], fill=(58, 98, 170), width=2)
        pen.line([(0, position), (CANVAS, position)], fill=(58, 98, 170), width=2)
    for stroke in sheet.strokes:
        if not stroke.width:
            pen.polygon(_xy(stroke.points), fill=(28, 66, 140))
        points = stroke.points if stroke.width else _closed(stroke.points)
        pen.line(_xy(points), fill=(232, 240, 255), width=4, joint="curve")
    return _down(image)


def stained(sheet: Sheet) -> Picture:
    """Leaded glass: saturated panes, thick black cames, and rays of lead across the backdrop."""
    image = Image.new("RGB", (CANVAS, CANVAS), (120, 170, 205))
    pen = ImageDraw.Draw(image)
    centre = CANVAS / 2
    first = sheet.rng.uniform(0, np.pi / 4)
    panes = [(86, 150, 190), (222, 200, 120), (150, 120, 180), (110, 180, 140)]
    for k in range(8):
        a, b = first + k * np.pi / 4, first + (k + 1) * np.pi / 4
        fan = [(centre, centre)] + [(centre + 280 * np.cos(t), centre + 280 * np.sin(t)) for t in (a, b)]
        pen.polygon(fan, fill=panes[k % len(panes)], outline=(14, 14, 16), width=7)
    for stroke in sheet.strokes:
        colour = (120, 170, 205) if stroke.role == "ground" else sheet.palette[stroke.role]
        if stroke.width:
            pen.line(_xy(stroke.points), fill=(14, 14, 16), width=9, joint="curve")
        else:
            pen.polygon(_xy(stroke.points), fill=colour)
            pen.line(_xy(_closed(stroke.points)), fill=(14, 14, 16), width=9, joint="curve")
    return _down(image)


PAINTERS: dict[str, Callable[[Sheet], Picture]] = {
    "flat": flat,
    "sketch": sketch,
    "neon": neon,
    "mosaic": mosaic,
    "watercolour": watercolour,
    "engraving": engraving,
    "blueprint": blueprint,
    "stained": stained,
}
