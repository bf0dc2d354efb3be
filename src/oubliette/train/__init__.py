"""What erasing, guarding and attacking share: the loop and its parts, which know no method by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette.registry import Registry

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
        "doco_ref": "oubliette.train.surgery:DocoRef",
    },
)

SMOOTHERS: Registry[type[Smoother]] = Registry(
    "smoother",
    {"none": "oubliette.train.smoothing:NoSmoother", "sam": "oubliette.train.smoothing:Sam"},
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
    },
)
