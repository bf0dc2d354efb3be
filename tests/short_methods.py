"""How to run every method in a moment on a tiny model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oubliette.erase import METHODS

#: Options that make a published default short, or strong enough for a tiny model; a method that needs none is
#: not listed.
SHORT: dict[str, dict[str, Any]] = {
    "mace": {"steps": 3},
    "doco": {"warm_up": 1},
    "esd": {"trajectory_steps": 3},
    "advunlearn": {"trajectory_steps": 3, "attack_after": 1, "attack_steps": 2, "kept_per_prompt": 1},
    "spm": {"trajectory_steps": 3, "anchors": 1},
    "stereo": {"rounds": 1, "erase_steps": 1, "inversion_steps": 1, "trajectory_steps": 3},
    "receler": {"trajectory_steps": 3, "rank": 4, "adversary_steps": 1, "adversary_tokens": 2},
    "sld": {"warm_up": 0},
    "adavd": {"centre": 0.0},
    "rmu": {"layer": 1},
    "rmu-lat": {"layer": 1, "attack_layer": 0, "attack_steps": 2},
    "rr": {"layers": [0, 1], "ramp": 10},
    "mrp": {"blocks": [0, 1]},
    "elm": {"expert": "Sure.", "novice": "Unsure.", "turn": "So.", "texts": 2, "length": 3},
    "whp": {"reinforce_steps": 2, "reinforce_rate": 1e-3},
    "task-vector": {"steps": 2, "batch": 2, "accumulation": 1},
    "altpo": {"count": 2, "tokens": 8},
    "scrub": {"forget_steps": 1, "retain_steps": 1},
    "tar": {"inner_steps": 3, "every": 2, "inner_learning_rates": [1e-3]},
}
#: Scopes of methods that cannot work on their bench's; a tensor of theirs is frozen in its place.
SCOPED: dict[str, str] = {
    "hirm": r"re:^text_encoder(_2)?\.(text_model\.)?encoder\.layers\.0\.",
    "fmn": r"re:\.attn2\.to_k\.weight$",  # values have no part in where the last layer looks
}
#: Files that a method cannot do without, each by the key of the set that serves as one.
SOURCES: dict[str, dict[str, str]] = {"npo-irm": {"auxiliary": "retain"}}


def sources_of(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe must name besides `facts` for this method."""
    return {"sources": {key: facts[which] for key, which in SOURCES.get(name, {}).items() if which in facts}}


def saved_as(name: str) -> str:
    """The form in which a method's result is saved whole."""
    return "attached" if METHODS.get(name).solution == "attached" else "full"
