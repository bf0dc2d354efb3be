"""Attacking: what brings a concept back; what is to be judged is a callback.

Imports train and what lies below; never erase, eval or guard.
Begin at `types.py`, then `relearn.py`, `prompts/attack.py`, `probes/probe.py`.
"""

from __future__ import annotations

from typing import Any

from oubliette.core.registry import Registry
from oubliette.train.tuning import MODES

__all__ = ["ATTACKS", "PROBES", "PROMPT_ATTACKS"]

_PROMPTS: dict[str, str | Any] = {
    "paraphrase": "oubliette.attack.prompts.paraphrase:Paraphrase",
    "random-tokens": "oubliette.attack.prompts.random_tokens:RandomTokens",
    "unlearndiffatk": "oubliette.attack.prompts.unlearndiffatk:UnlearnDiffAtk",
    "p4d": "oubliette.attack.prompts.p4d:P4D",
    "ring-a-bell": "oubliette.attack.prompts.ring_a_bell:RingABell",
    "affirmation": "oubliette.attack.prompts.framing:Affirmation",
    "role": "oubliette.attack.prompts.framing:Role",
    "rewording": "oubliette.attack.prompts.framing:Rewording",
    "few-shot": "oubliette.attack.prompts.framing:FewShot",
    "gcg": "oubliette.attack.prompts.gcg:GCG",
    "soft-prompt": "oubliette.attack.prompts.soft_prompt:SoftPrompt",
}
_PROBES: dict[str, str | Any] = {
    "transplant": "oubliette.attack.probes.transplant:Transplant",
    "inpaint": "oubliette.attack.probes.inpaint:Inpaint",
    "complete": "oubliette.attack.probes.complete:Complete",
    "trajectory": "oubliette.attack.probes.trajectory:Trajectory",
    "invert": "oubliette.attack.probes.invert:Invert",
    "detach": "oubliette.attack.probes.detach:Detach",
    "quantize": "oubliette.attack.probes.quantize:Quantize",
    "prune": "oubliette.attack.probes.perturb:Prune",
    "noise": "oubliette.attack.probes.perturb:Noise",
    "linear-probe": "oubliette.attack.probes.linear_probe:LinearProbe",
    "logit-lens": "oubliette.attack.probes.logit_lens:LogitLens",
}

PROMPT_ATTACKS: Registry[Any] = Registry("prompt attack", _PROMPTS)
"""Searches for prompts; the weights stay."""

PROBES: Registry[Any] = Registry("probe", _PROBES)
"""Attacks that train nothing."""

ATTACKS: Registry[Any] = Registry(
    "attack", {**{name: MODES.target(name) for name in MODES}, **_PROMPTS, **_PROBES}
)
"""All of the above: every class has what `oubliette.attack.types.Kind` lists."""
