"""A tensor's own name, without what wrappers around a model add to it; strangers' words in one short line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_object

__all__ = ["json_object", "one_line", "own_name"]

#: DDP, torch.compile and peft; each may stand anywhere in a name.
_WRAPPERS = re.compile(
    r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|module|base_layer|original_module|token_adapter)(?=\.)"
)
_PEFT = re.compile(r"^base_model\.model\.")
_SAVED = re.compile(r"\.modules_to_save\.[^.]+(?=\.)")
_LONGEST = 240


def own_name(name: str) -> str:
    """A tensor's name without wrappers' levels, and without the one transformers 5 took out of CLIP's text
    tower.

    "module." (DDP), "_orig_mod." (torch.compile), "base_model.model.", ".base_layer", ".modules_to_save.X"
    (peft) and ".text_model" go.
    """
    name = _PEFT.sub("", name.removeprefix("module."))
    name = _SAVED.sub("", name)
    name = _WRAPPERS.sub(r"\1", "." + name).replace("..", ".").lstrip(".")
    return name.replace(".text_model.", ".")  # as backends.files.stored.canonical, without its imports


def one_line(message: object) -> str:
    """Any message in one line of at most 240 characters, without control characters."""
    text = "".join(c if c.isprintable() else " " for c in str(message))
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a stranger may have written; UserError, in one line, for any other."""
    try:
        return read_object(path)
    except UserError as error:
        raise UserError(one_line(error)) from error
