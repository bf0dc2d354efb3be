"""What a name or a prompt may hold, and the warning about what a user gave."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any

from oubliette.core.errors import UserError

__all__ = ["InputWarning", "check_text", "refuse_cut", "warn_of_cut"]

_NAMES = {
    "\n": "a newline",
    "\r": "a carriage return",
    "\t": "a tab",
    "\x00": "NUL",
    "\x07": "BEL",
    "\x1b": "ESC",
}
_LINES = "\t\n\r\u2028\u2029"
_REFUSED = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators


class InputWarning(UserWarning):
    """What a user gave can be used, and is probably not what was meant."""


def check_text(text: str, what: str, *, lines: bool = False) -> str:
    """The text as it is; UserError, which `what` opens ("the prompt"), where it holds a control character.

    Blanks around it do not count. `lines` allows line ends and tabs within it, as in an answer or a caption.
    """
    for letter in text.strip():
        if unicodedata.category(letter) in _REFUSED and not (lines and letter in _LINES):
            found = _NAMES.get(letter, f"U+{ord(letter):04X}")
            raise UserError(
                f"{what} {text!r} holds {found}; expected plain text" + ("" if lines else " on one line")
            )
    return text


def warn_of_cut(model: Any, prompts: Sequence[str], what: str) -> None:
    """Warn (InputWarning) where a model reads some of these prompts ("prompts to retain") only in part.

    Asked of models that cut (`cut_prompts`); others say themselves what does not fit.
    """
    cut = _cut(model, prompts)
    if cut:
        which = "is" if len(cut) == 1 else "are"
        warnings.warn(
            f"{len(cut)} of {len(prompts)} {what} {which} cut: the text encoder does not read to the end of "
            f"{cut[0]!r}",
            InputWarning,
            stacklevel=3,
        )


def refuse_cut(model: Any, text: str, what: str) -> None:
    """UserError, which `what` opens ("the concept"), where a model reads a text only in part."""
    if _cut(model, [text]):
        raise UserError(f"{what} {text!r} is longer than the text encoder reads; give a shorter one")


def _cut(model: Any, prompts: Sequence[str]) -> list[str]:
    ask = getattr(model, "cut_prompts", None)
    return [] if ask is None else list(ask(prompts))
