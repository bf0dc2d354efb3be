"""Fine-tuning as users and attackers do it: what moves, at which budget, on the shared loop.

Imports what train may.
Begin at `tune.py`; `modes.py` says what may move.
"""

from __future__ import annotations

from typing import Any

from oubliette.core.registry import Registry

__all__ = ["MODES"]

MODES: Registry[Any] = Registry(
    "mode",
    {
        "full": "oubliette.train.tuning.modes:Full",
        "xattn": "oubliette.train.tuning.modes:CrossAttention",
        "xattn-kv": "oubliette.train.tuning.modes:TextFacing",
        "text-encoder": "oubliette.train.tuning.modes:TextEncoder",
        "lora": "oubliette.train.tuning.lora:Lora",
        "textual-inversion": "oubliette.train.tuning.token:TextualInversion",
    },
)
"""What fine-tuning may move; each an `oubliette.train.tuning.modes.Mode`."""
