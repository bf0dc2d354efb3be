"""What erasing, guarding and attacking share: the loop and its parts, which know no method by name.

Imports backends, data, world and core.
Begin at `objective.py` and `roles.py`, then `loop.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette.core.registry import Registry

if TYPE_CHECKING:
    from oubliette.train.scope import Rule
    from oubliette.train.smoothing import Smoother
    from oubliette.train.surgery import Surgery

__all__ = ["SCOPES", "SMOOTHERS", "SURGERIES"]

SURGERIES: Registry[type[Surgery]] = Registry(
    "surgery",
    {
        "sum": "oubliette.train.surgery:Sum",
        "project": "oubliette.train.surgery:Project",
        "priority": "oubliette.train.surgery:Priority",
        "pcgrad": "oubliette.train.surgery:PCGrad",
        "doco_ref": "oubliette.train.surgery:DocoRef",
        "bome": "oubliette.train.surgery.bome:Bome",
        "torchjd": "oubliette.train.surgery:TorchJD",
    },
)

SMOOTHERS: Registry[type[Smoother]] = Registry(
    "smoother",
    {
        "none": "oubliette.train.smoothing:NoSmoother",
        "sam": "oubliette.train.smoothing:Sam",
        "rs": "oubliette.train.smoothing:Rs",
        "gp": "oubliette.train.smoothing:Gp",
        "cr": "oubliette.train.smoothing:Cr",
        "wa": "oubliette.train.smoothing:Wa",
        "stableun": "oubliette.train.smoothing:StableUN",
        "refresh": "oubliette.train.smoothing:Refresh",
    },
)

SCOPES: Registry[Rule] = Registry(
    "scope",
    {
        "xattn-kv": "oubliette.train.scope:text_facing",
        "xattn": "oubliette.train.scope:cross_attention",
        "non-xattn": "oubliette.train.scope:outside_cross_attention",
        "full": "oubliette.train.scope:network",
        "text-encoder": "oubliette.train.scope:text_encoder",
        "all-linear": "oubliette.train.scope:linear",
        "attribution": "oubliette.train.attribution:attribution",
    },
)
