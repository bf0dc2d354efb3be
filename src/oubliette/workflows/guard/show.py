"""A mask in words: what is frozen where, how it was learned, what it was measured to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.numbers import percent

__all__ = ["describe", "open_mask"]

_BAR = 20


def open_mask(source: str) -> Any:
    """The mask in a folder or of a Hub id; UserError for anything else."""
    from oubliette.guard.mask import read_mask

    if Path(source).exists():
        return read_mask(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(f"mask {source}: no such folder, and not a Hub id (user/name)")
    return read_mask(_from_hub(source))


def describe(mask: Any) -> str:
    """Lines for a terminal: both shares, a bar a block and a type of layer, learner, stability, figures."""
    from oubliette.guard.show import summary

    found = summary(mask)
    budget = mask.budget
    asked = "" if budget.share is None else f" (asked: {percent(budget.share, 'g')} of the {budget.of})"
    revision = f" at {mask.base.revision[:12]}" if mask.base.revision else ""
    lines = [
        f"base      {mask.base.source}{revision}, {mask.base.fingerprint[:12]}",
        f"frozen    {percent(found.whole.parameter_share, '.3g')} of the parameters, "
        f"{found.whole.frozen_tensors} of {found.whole.tensors} tensors{asked}",
        f"learned   {_learned(mask.learned)}",
        f"measured  {mask.measured or 'nothing yet'}",
        "",
    ]
    width = max(len(part.name) for part in (*found.blocks, *found.types))
    for parts in (found.blocks, found.types):
        lines += [_bar(part, width) for part in parts] + [""]
    return "\n".join(lines).rstrip()


def _bar(part: Any, width: int) -> str:
    full = round(_BAR * part.parameter_share)
    return (
        f"{part.name.ljust(width)}  {'█' * full}{'·' * (_BAR - full)}  "
        f"{percent(part.parameter_share, '3.0f')} of {part.parameters:,} parameters, "
        f"{part.frozen_tensors} of {part.tensors} tensors"
    )


def _learned(facts: dict[str, Any]) -> str:
    parts = [str(facts.get("learner", "unknown"))]
    if facts.get("converted_from"):
        parts.append(f"converted from {facts['converted_from']}")
    if "seed" in facts:
        parts.append(f"seed {facts['seed']}")
    for side, sources in (facts.get("data") or {}).items():
        parts.append(f"{side}: " + ", ".join(f"{one['name']} ({one['rows']})" for one in sources))
    stability = facts.get("stability")
    if stability:
        parts.append(
            f"halves of the data agree on {stability['parameters']:.2f} of the parameters (chance "
            f"{stability['chance']:.2f}, Jaccard)"
        )
    return "; ".join(parts)


def _from_hub(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(repo, allow_patterns=["guard.json", "scores.safetensors"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"mask {repo}: could not be had from the Hub ({type(error).__name__})") from error
    return Path(found)
