"""Oubliette makes generative models forget a concept, and measures whether they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette.core.lazy_exports import export_lazily
from oubliette.core.moved import install

__version__ = "0.1.0"

# The face of the package. Each name is imported when first used, so that `import oubliette` stays light.
_FACE = {
    "load": "oubliette.api:load",
    "wrap": "oubliette.api:wrap",
    "erase": "oubliette.api:erase",
    "evaluate": "oubliette.api:evaluate",
    "attack": "oubliette.workflows.attack:attack",
    "audit": "oubliette.workflows.audit:audit",
    "UserError": "oubliette.core.errors:UserError",
}

__all__ = ["UserError", "__version__", "attack", "audit", "erase", "evaluate", "load", "wrap"]

if TYPE_CHECKING:
    from oubliette.api import erase, evaluate, load, wrap
    from oubliette.core.errors import UserError
    from oubliette.workflows.attack import attack
    from oubliette.workflows.audit import audit

install()  # names of before, for one release
export_lazily(__name__, _FACE)
