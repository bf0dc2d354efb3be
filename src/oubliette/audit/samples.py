"""Samples that go on the page: the same few prompts and seeds at every point, small enough for one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from oubliette.audit.attack_cache import Exhibit
from oubliette.audit.leakage_meter import LeakageMeter
from oubliette.eval.sampler import CachedSampler

__all__ = ["LINES", "SIDE", "curve_exhibits", "exhibits_of", "said", "small_png"]

#: Pixels: a page has some hundred pictures, and they are shown no larger.
SIDE = 128
#: Prompts a curve is shown on.
LINES = 3


def small_png(picture: np.ndarray) -> str:
    """A uint8 picture (H, W, 3) as a base64 PNG, at most `SIDE` pixels wide and high."""
    from PIL import Image

    image = Image.fromarray(picture)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def curve_exhibits(
    meter: LeakageMeter, painter: CachedSampler, subject: str, column: str, hits: np.ndarray
) -> list[Exhibit]:
    """What a subject draws at one point of a curve, for the first prompts of the gauge."""
    prompts, seeds = meter.target.prompts[:LINES], meter.target.seeds[:LINES]
    pictures = painter.recall(prompts, seeds)
    return exhibits_of(pictures, prompts, seeds, hits[:LINES], subject=subject, column=column)


def exhibits_of(
    samples: Sequence[Any] | np.ndarray,
    prompts: Sequence[str],
    seeds: Sequence[int],
    hits: Sequence[bool] | np.ndarray,
    *,
    subject: str,
    column: str,
) -> list[Exhibit]:
    """One exhibit a sample."""
    return [
        Exhibit(subject, column, prompt, int(seed), *_shown(sample, bool(hit)))
        for sample, prompt, seed, hit in zip(samples, prompts, seeds, hits, strict=True)
    ]


def said(sample: Any) -> dict[str, str]:
    """What a sample says, for its line of samples.jsonl; of a picture nothing."""
    return {} if isinstance(sample, np.ndarray) else {"text": str(sample.text)}


def _shown(sample: Any, hit: bool) -> tuple[str, bool, str]:
    """PNG, the judge's word and text of a sample, which is a picture or an answer."""
    if isinstance(sample, np.ndarray):
        return small_png(sample), hit, ""
    return "", hit, str(sample.text)
