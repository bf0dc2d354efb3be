"""What a protocol found as rows of words: every figure with its interval and how many pictures it is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oubliette.core.numbers import ends, percent, plain

__all__ = ["notes", "rows"]

Content = Mapping[str, Any]


def rows(found: Sequence[Content]) -> list[list[str]]:
    """Rows of model, concept, judge and figures from the plain data of any of the protocols' results."""
    return [row for content in found for row in _ROWS[content["format"]](content)]


def notes(found: Sequence[Content]) -> list[str]:
    """Lines to go under the rows: what a FID was or why there is none, and what was drawn."""
    lines: list[str] = []
    for content in found:
        if content["format"].startswith("oubliette-canvas"):
            lines.append(
                f"grid: {len(content['styles'])} styles x {len(content['objects'])} objects x "
                f"{len(content['seeds'])} seeds (AA is the mean of the three)"
            )
            fid = content["fid"]
            if fid is not None:
                lines.append(
                    f"FID: {_plain(fid)} on {fid['extractor']}, n={fid['n']} against {fid['n_reference']}"
                )
            lines += [f"note: {line}" for line in content["notes"]]
        elif content["format"].startswith("oubliette-cer"):
            lines.append(
                f"CER: {content['figures'][0]['templates']} templates ({content['templates']}), "
                f"{content['each']} pictures each, against the {content['against']} text; "
                "the published one is over ImageNet's 80"
            )
        elif content["format"].startswith("oubliette-harmonic") and any(
            figures["measure"] != "top-1" for figures in content["figures"]
        ):
            lines.append("note: the mean probability is what MACE's script reports; it is no accuracy")
    return list(dict.fromkeys(lines))


def _canvas(content: Content) -> list[list[str]]:
    return [
        [_short(content["source"]), content["concept"], figures["judge"]]
        + [_share(figures[name]) for name in ("ua", "ira", "cra", "aa")]
        for figures in content["figures"]
    ]


def _classes(content: Content) -> list[list[str]]:
    return [
        [_short(content["model"]), ", ".join(content["erased"]), figures["judge"]]
        + [_share(figures[name]) for name in ("erased", "esr", "psr")]
        for figures in content["figures"]
    ]


def _harmonic(content: Content) -> list[list[str]]:
    return [
        [_short(content["model"]), figures["concept"], f"{figures['judge']}, {figures['measure']}"]
        + [f"{figures['form']} {_share(figures['value'])}"]
        + [_share(figures[name]) for name in ("erased", "kept", "synonyms")]
        for figures in content["figures"]
    ]


def _cer(content: Content) -> list[list[str]]:
    return [
        [
            _short(content["model"]),
            figures["concept"],
            f"clip:{content['clip']}",
            _share(figures["cer"]),
            f"{_plain(figures['score'])} n={figures['score']['n']}",
        ]
        for figures in content["figures"]
    ]


_ROWS: dict[str, Callable[[Content], list[list[str]]]] = {
    "oubliette-canvas/1": _canvas,
    "oubliette-classes/1": _classes,
    "oubliette-harmonic/1": _harmonic,
    "oubliette-cer/1": _cer,
}


def _share(figure: Content | None) -> str:
    """A share in per cent with its interval and n: "4.0 % [1.1, 13.5] n=50"."""
    if figure is None:
        return "-"
    sides = ends(figure["low"], figure["high"], ".1f")
    return f"{percent(figure['value'], '.1f')} {sides} n={figure['n']}"


def _plain(figure: Content) -> str:
    sides = ["?" if figure[end] is None else plain(f"{figure[end]:.3f}") for end in ("low", "high")]
    return f"{plain(format(figure['value'], '.3f'))} [{', '.join(sides)}]"


def _short(source: str) -> str:
    return Path(source).name or source
