"""Ways to learn a mask, and the baselines a mask must beat; all behind one interface.

Imports what guard may.
Begin at `saliency.py`; the interface is `guard/learn/problem.py`'s `Learner`.
"""

from __future__ import annotations

from typing import Any

from oubliette.core.registry import Registry

__all__ = ["BASELINES", "LEARNERS"]

_LEARNERS: dict[str, str | Any] = {
    "saliency": "oubliette.guard.learners.saliency:Saliency",
    "bilevel": "oubliette.guard.learners.bilevel:Bilevel",
    "released": "oubliette.guard.learners.released:Released",
}
_BASELINES: dict[str, str | Any] = {
    "random": "oubliette.guard.learners.blind:Random",
    "layer-type": "oubliette.guard.learners.blind:LayerType",
    "largest": "oubliette.guard.learners.blind:Largest",
    "fisher-ratio": "oubliette.guard.learners.baselines:FisherRatio",
    "gradient-difference": "oubliette.guard.learners.baselines:GradientDifference",
    "block": "oubliette.guard.learners.baselines:Block",
}

LEARNERS: Registry[Any] = Registry("guard learner", {**_LEARNERS, **_BASELINES})
"""Each an `oubliette.guard.learn.problem.Learner`."""

BASELINES: Registry[Any] = Registry("guard baseline", _BASELINES)
"""Those of the above that a learned mask must beat."""
