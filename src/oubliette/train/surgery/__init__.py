"""How the roles' gradients become one update: one file a surgery.

Imports what train may; no smoother, no method.
Begin at `base.py`, then `project.py`.
"""

from __future__ import annotations

from oubliette.train.surgery.base import BaseSurgery, Surgery
from oubliette.train.surgery.doco_ref import DocoRef
from oubliette.train.surgery.pcgrad import PCGrad
from oubliette.train.surgery.priority import Priority
from oubliette.train.surgery.project import Project
from oubliette.train.surgery.sum import Sum
from oubliette.train.surgery.torchjd import TorchJD

__all__ = ["BaseSurgery", "DocoRef", "PCGrad", "Priority", "Project", "Sum", "Surgery", "TorchJD"]
