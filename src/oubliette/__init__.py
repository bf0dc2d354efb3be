"""Oubliette makes generative models forget a concept, and measures whether they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette.face import give_face

__version__ = "0.1.0"

# The face of the package. Each name is imported when first used, so that `import oubliette` stays light.
_FACE = {
    "load": "oubliette.api:load",
    "wrap": "oubliette.api:wrap",
    "erase": "oubliette.api:erase",
    "evaluate": "oubliette.api:evaluate",
    "attack": "oubliette.audit.single:attack",
    "audit": "oubliette.audit.run:audit",
    "UserError": "oubliette.errors:UserError",
}

__all__ = ["UserError", "__version__", "attack", "audit", "erase", "evaluate", "load", "wrap"]

if TYPE_CHECKING:
    from oubliette.api import erase, evaluate, load, wrap
    from oubliette.audit.run import audit
    from oubliette.audit.single import attack
    from oubliette.errors import UserError


give_face(__name__, _FACE)
