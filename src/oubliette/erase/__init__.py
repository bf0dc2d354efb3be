"""Erasing: methods and nothing else. They take a model and a request; the loop and its parts lie in
`train`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oubliette.registry import Registry

METHODS: Registry[Any] = Registry(
    "method",
    {
        "uce": "oubliette.erase.diffusion.uce:UCE",
        "ablation": "oubliette.erase.diffusion.ablation:Ablation",
        "esd": "oubliette.erase.diffusion.esd:ESD",
        "doco": "oubliette.erase.diffusion.doco:DoCo",
        "npo": "oubliette.erase.language.npo:NPO",
        "graddiff": "oubliette.erase.language.graddiff:GradDiff",
    },
)
"""Every method: a class with `name`, `backend`, `solution` (trained, solved), `paper`, `Options`, built from
`(options, request)`. A trained one is an `oubliette.train.objective.Objective`; a solved one has
`solve(model, data, scope) -> Iterator[Edit]`."""

PREPARERS: Registry[Callable[..., Any]] = Registry(
    "data preparer",
    {
        "diffusion": "oubliette.erase.prepare:prepare",
        "language": "oubliette.erase.language.prepare:prepare",
    },
)
"""What turns a request into a method's data, by the backend's kind: `prepare(model, request, *, seed,
cache)`.
"""
