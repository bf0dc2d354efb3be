"""Plans that ship, and plans in files: read as plain data, every defect one line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from oubliette.core.errors import UserError, suggest

__all__ = ["SHIPPED", "plan_content", "plan_text"]

SHIPPED = (
    "erasure",
    "tuning",
    "audit",
    "guard",
    "unlearning",
    "smoothing",
    "text-tuning",
    "blur",
    "fit",
    "fit-tuning",
    "refresh",
)


def plan_text(name: str) -> str:
    """A shipped plan's YAML, to copy and edit; UserError for a name that is none."""
    if name not in SHIPPED:
        raise UserError(f"no plan is called '{name}'; {suggest(name, SHIPPED)}")
    return (files("oubliette.bench") / "plans" / f"{name}.yaml").read_text("utf-8")


def plan_content(source: str | Path) -> tuple[Mapping[str, Any], str]:
    """What a shipped plan or a YAML file holds, and how to call it in an error."""
    where = f"plan {source}"
    if str(source) in SHIPPED:
        text = plan_text(str(source))
    else:
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{where}: cannot be read ({reason}); shipped: {', '.join(SHIPPED)}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected keys with values, found {type(content).__name__}")
    return content, where
