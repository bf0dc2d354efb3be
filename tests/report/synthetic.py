"""A report of invented figures, consistent in themselves, for tests and for looking at the page."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from oubliette.eval.auroc import Auroc
from oubliette.eval.grids import Grid, Line, Picture
from oubliette.eval.leakage import leakage
from oubliette.eval.pictures.clip_agreement import Agreement
from oubliette.eval.pictures.cmmd import Cmmd
from oubliette.eval.pictures.fidelity import Kid, paired_distance
from oubliette.eval.result import ClipFigures, ConceptFigures, Evaluation, Fidelity, JudgeFacts, Row, Settings
from oubliette.eval.statistics import Rate, ratio_above_floor, t_interval
from oubliette.eval.utility import Kept, Utility
from oubliette.eval.verdict import Bounds, decide
from oubliette.report.build import load_snippet
from oubliette.report.data import Curve, ReportData, Run

CONCEPTS = (
    ("car", "object", "object", "truck"),
    ("engraving", "picture", "style", "sketch"),
    ("Mira Voss", "person", "person", "Lena Farrow"),
)
#: Row: role, share found in-set and withheld, accuracy near, far and across.
ROWS = {
    "UCE": ("model", 0.02, 0.16, 0.86, 0.95, 0.97),
    "DoCo": ("model", 0.0, 0.0, 0.92, 0.96, 0.97),
    "base": ("control", 0.98, 0.96, 0.97, 0.98, 0.98),
    "gold": ("control", 0.0, 0.02, 0.96, 0.98, 0.97),
    "random weights": ("control", 0.0, 0.0, 0.0, 0.02, 0.04),
    "prompt filter": ("control", 0.04, 0.94, 0.97, 0.98, 0.98),
}
N = 50


def mask(share: float, n: int) -> np.ndarray:
    """A boolean array of length n with the share of it true."""
    found = np.zeros(n, dtype=bool)
    found[: round(share * n)] = True
    return found


def _kept(share: float, base: float, n: int, concepts: int) -> Kept:
    rate, shown = Rate.mean(mask(share, n)), Rate.mean(mask(base, n))
    return Kept(rate, shown, ratio_above_floor(rate, shown), concepts)


def _figures(name: str, concept: tuple[str, str, str, str], bounds: Bounds) -> ConceptFigures:
    _, in_set, withheld, near, far, cross = ROWS[name]
    _, base_in, base_out, base_near, base_far, base_cross = ROWS["base"]
    found = [
        leakage(mask(share, N), mask(base, N), mask(floor, N), judge=judge, split=split)
        for judge, floor in (("oracle", 0.02), ("clip:nano-clip", 0.08))
        for split, share, base in (("in-set", in_set, base_in), ("withheld", withheld, base_out))
    ]
    near_figure, far_figure = _kept(near, base_near, 25, 1), _kept(far, base_far, 60, 10)
    utility = Utility(
        judge="oracle",
        ua=Rate.mean(~mask(in_set, N)),
        ira=_kept((near + 9 * far) / 10, (base_near + 9 * base_far) / 10, 66, 11),
        ira_near=near_figure,
        ira_far=far_figure,
        cra=_kept(cross, base_cross, 72, 12),
    )
    score = t_interval(0.35 + 0.3 * in_set + 0.02 * np.arange(N) / N)
    clip = ClipFigures(
        "nano-clip",
        "in-set",
        score,
        Rate.mean(mask(in_set, N)),
        Rate.mean(mask(in_set, N)),
        score,
        Rate.mean(mask(base_in, N)),
        Rate.mean(mask(base_in, N)),
    )
    deciding = [figure for figure in found if figure.judge == "oracle"]
    return ConceptFigures(*concept, "oracle", found, utility, [clip], decide(deciding, utility, bounds))


def make_evaluation() -> Evaluation:
    """An evaluation of UCE and DoCo beside four controls on three concepts."""
    bounds = Bounds()
    rows = []
    for index, (name, (role, *_)) in enumerate(ROWS.items()):
        apart = 0.0 if name == "base" else 0.05 + 0.3 * (name == "random weights")
        fidelity = Fidelity(
            Kid(0.0004 + apart / 20, 0.0003, "nano-clip", 100, 64, 138, 138),
            None
            if name == "base"
            else paired_distance(apart + np.arange(50) / 900, apart / 3 + np.arange(50) / 900, "nano-clip"),
            t_interval(0.72 - apart + np.arange(50) / 500),
            Cmmd(0.05 + apart, 0.02 + apart, 0.08 + apart, apart, "nano-clip", 138, 138),
        )
        concepts = [_figures(name, concept, bounds) for concept in CONCEPTS]
        rows.append(Row(name, role, f"{index:x}" * 64, concepts, fidelity, 41.5))
    return Evaluation(
        base="nano",
        base_fingerprint="ab" * 32,
        rows=rows,
        judges=[JudgeFacts("oracle", "cd" * 32, None), JudgeFacts("clip:nano-clip", "ef" * 32, 0.5)],
        settings=Settings(
            N, 6, 25, 0, 25, 3.0, "ddim", None, {"object": ["truck", "boat"], "style": ["sketch"]}
        ),
        bounds=bounds,
        complaints=[],
        agreement=[
            Agreement("clip:nano-clip", "oracle", "object", "car", Auroc(0.99, 0.97, 1.0, 80, 60, "DeLong"))
        ],
        notes=[],
        record={
            "versions": {"oubliette": "0.1.0", "torch": "2.15.0"},
            "created": "2026-11-23T18:00:00+00:00",
        },
        seconds=231.0,
    )


def square(prompt: str, name: str, index: int) -> np.ndarray:
    """A 64 x 64 picture that differs by prompt, model and index."""
    seed = sum(map(ord, prompt + name)) + index
    rng = np.random.default_rng(seed)
    picture = np.full((64, 64, 3), rng.integers(120, 255, 3), np.uint8)
    low, side = rng.integers(8, 24), rng.integers(16, 32)
    picture[low : low + side, low : low + side] = rng.integers(0, 160, 3)
    return picture


def make_report(draw: Callable[[str, str, int], np.ndarray] = square) -> ReportData:
    """A whole report; `draw(prompt, model, index)` makes its pictures."""
    columns = ["base", "UCE", "DoCo", "gold"]
    grids = []
    for name, _, _, near in CONCEPTS:
        for title, subject, bad in (
            ("prompts of the kind the eraser was given", name, True),
            ("withheld wordings and synonyms", name, True),
            (f"{near}: near neighbour, which must stay", near, False),
        ):
            lines = []
            for index in range(6):
                prompt = f"a picture of {subject} in some style, number {index}"
                found = [
                    not bad or column == "base" or (column == "UCE" and index == 3) for column in columns
                ]
                if not bad and index == 4:
                    found[2] = False
                pictures = [
                    Picture.of(draw(prompt, column, index), hit)
                    for column, hit in zip(columns, found, strict=True)
                ]
                lines.append(Line(prompt, index, pictures))
            grids.append(Grid(name, title, columns, lines, bad))
    steps = list(range(10, 410, 10))
    curves = [
        Curve("DoCo", role, steps, [scale * math.exp(-s / 150) + 0.02 * scale * math.sin(s) for s in steps])
        for role, scale in (("forget", 0.7), ("discriminator", 1.4), ("retain", 0.03))
    ]
    recipe = "name: doco\nmodel: nano\nconcepts:\n- name: car\n  anchor: object\ntrain:\n  steps: 400\n"
    load = load_snippet("out/doco", prompt="a picture of a truck")
    runs = [
        Run(
            "UCE",
            "closed-form edit of keys and values",
            "",
            recipe,
            load,
            {"load": 0.4, "prepare": 0.2, "optimise": 1.1, "save": 0.2},
            {"Tensors changed": "16"},
        ),
        Run(
            "DoCo",
            "domain correction with a discriminator",
            "400 steps of 8",
            recipe,
            load,
            {"load": 0.4, "prepare": 6.2, "optimise": 71.0, "save": 0.2},
        ),
    ]
    return ReportData(
        "Three concepts erased from nano", make_evaluation(), grids, curves, runs, "picture", "oubliette demo"
    )
