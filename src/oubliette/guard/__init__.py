"""Guarding: a mask of tensors that fine-tuning must leave as they are, from learning to verifying.

Imports train and what lies below; never attack, erase or eval. Each name is imported when first used.
Begin at `mask.py`, then `learn/learn.py`, `enforce/enforce.py`, `verify/verify.py`.
"""

from __future__ import annotations

from oubliette.core.lazy_exports import export_lazily

_FACE = {
    "FrozenTensor": "oubliette.guard.mask:FrozenTensor",
    "GuardCallback": "oubliette.guard.enforce.callback:GuardCallback",
    "Mask": "oubliette.guard.mask:Mask",
    "MaskViolated": "oubliette.guard.enforce.watch:MaskViolated",
    "Watch": "oubliette.guard.enforce.watch:Watch",
    "check_adapters": "oubliette.guard.enforce.adapters:check_adapters",
    "enforce": "oubliette.guard.enforce.enforce:enforce",
    "learn": "oubliette.guard.learn.learn:learn",
    "lora_targets": "oubliette.guard.enforce.adapters:lora_targets",
    "picture": "oubliette.guard.show:picture",
    "publish": "oubliette.guard.publish:publish",
    "read_mask": "oubliette.guard.mask:read_mask",
    "sign": "oubliette.guard.sign:sign",
    "summary": "oubliette.guard.show:summary",
    "verify": "oubliette.guard.verify.verify:verify",
    "verify_signature": "oubliette.guard.sign:verify_signature",
}

__all__ = [
    "FrozenTensor",
    "GuardCallback",
    "Mask",
    "MaskViolated",
    "Watch",
    "check_adapters",
    "enforce",
    "learn",
    "lora_targets",
    "picture",
    "publish",
    "read_mask",
    "sign",
    "summary",
    "verify",
    "verify_signature",
]

export_lazily(__name__, _FACE)
