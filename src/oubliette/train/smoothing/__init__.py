"""Where in weight space a role's gradient is taken: one file a smoother.

Imports what train may; no surgery, no method.
Begin at `base.py`, then `sam.py`.
"""

from __future__ import annotations

from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes, Smoother
from oubliette.train.smoothing.cr import Cr
from oubliette.train.smoothing.gp import Gp
from oubliette.train.smoothing.refresh import Refresh
from oubliette.train.smoothing.rs import Rs
from oubliette.train.smoothing.sam import Sam
from oubliette.train.smoothing.stableun import StableUN
from oubliette.train.smoothing.wa import Wa

__all__ = [
    "Cr",
    "Gp",
    "GradientAt",
    "NoSmoother",
    "Passes",
    "Refresh",
    "Rs",
    "Sam",
    "Smoother",
    "StableUN",
    "Wa",
]
