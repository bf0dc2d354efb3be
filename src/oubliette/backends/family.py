"""What a model family is, read from data: `families/*.json`, one file a family, no code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from oubliette.core.errors import UserError


@dataclass(frozen=True)
class Family:
    """Facts about one family of text-to-image pipelines.

    `groups` maps a group's name to a regular expression that a tensor's full name must match whole.
    `hidden_layer` is the text encoder's layer that the denoiser reads (None: its last output, normed;
    an index into its hidden states otherwise). `pooled_from` names the text encoder whose pooled output the
    denoiser wants. `added_conditions` maps the denoiser's added-condition arguments to `TextEmbedding.extra`.
    `unused` components are not loaded (but kept when saving); `load_options` go to `from_pretrained`.
    """

    name: str
    title: str
    pipelines: tuple[str, ...]
    denoiser: str
    text_encoders: tuple[tuple[str, str], ...]
    groups: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    hidden_layer: int | None = None
    pooled_from: str | None = None
    added_conditions: dict[str, str] = field(default_factory=dict)
    load_options: dict[str, Any] = field(default_factory=dict)

    def members(self, group: str, names: list[str]) -> list[str]:
        """Those of `names` that belong to `group`, in their order; KeyError if the family has no such
        group.
        """
        pattern = re.compile(self.groups[group])
        return [name for name in names if pattern.fullmatch(name)]

    @property
    def editable(self) -> tuple[str, ...]:
        """Components whose tensors may be edited: the denoiser and the text encoders."""
        return (self.denoiser, *(encoder for _, encoder in self.text_encoders))


@cache
def families() -> dict[str, Family]:
    """All families that are shipped, by name."""
    found = {}
    for entry in sorted((files("oubliette.backends") / "families").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".json"):
            facts = json.loads(entry.read_text(encoding="utf-8"))
            for key in ("pipelines", "unused"):
                facts[key] = tuple(facts[key])
            facts["text_encoders"] = tuple((a, b) for a, b in facts["text_encoders"])
            family = Family(**facts)
            found[family.name] = family
    return found


def family_of(pipeline_class: str, where: str) -> Family:
    """The family a pipeline class belongs to; UserError naming the supported classes if none does."""
    for family in families().values():
        if pipeline_class in family.pipelines:
            return family
    known = ", ".join(name for family in families().values() for name in family.pipelines)
    raise UserError(f"{where}: is a {pipeline_class or 'pipeline of no class'}; supported are {known}")
