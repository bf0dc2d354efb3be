"""Prompt attacks: words that make a model show what it was made to forget; its weights stay.

Imports what attack may.
Begin at `attack.py` (search and record), then `random_tokens.py`, the baseline.

`PROMPT_ATTACKS` in `oubliette.attack` names them. Each class is built from its `Options` and has
`search(model, concept, cases, hits, ...) -> list[Found]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oubliette.attack.prompts.records import (
    Case,
    Found,
    Tally,
    cases_of,
    found_table,
    read_found,
    write_found,
)

__all__ = ["Case", "Found", "Tally", "build", "cases_of", "found_table", "read_found", "write_found"]


def build(name: str, options: Mapping[str, Any] | None = None, *, preset: str = "published") -> Any:
    """A prompt attack by name with a preset's options ("published", "nano") and those given on top of them.

    Raises UserError for an attack, a preset or an option that is not known.
    """
    from oubliette.attack import PROMPT_ATTACKS
    from oubliette.core.errors import UserError, suggest
    from oubliette.core.validation import validated

    attack = PROMPT_ATTACKS.get(name)
    if preset not in attack.presets:
        raise UserError(f"prompt attack '{name}': no preset '{preset}'; {suggest(preset, attack.presets)}")
    chosen = {**attack.presets[preset], **(options or {})}
    return attack(validated(attack.Options, chosen, f"prompt attack '{name}'"))
