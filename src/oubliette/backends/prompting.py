"""How a question is put to a language model: chat template or none, system text, examples before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from oubliette.core.validation import StrictModel

__all__ = ["Prompting", "asked_as"]


class Prompting(StrictModel):
    """What is put around every question that is asked or trained on; plain text has nothing around it.

    `template` "chat" must be the tokenizer's, "none" leaves it out where there is one, "auto" takes it where
    there is one. `system` is the system's text, "" an empty one; None leaves it to the template. `shots` are
    (question, answer) before each question: turns of the conversation, or lines of their own.
    """

    template: Literal["auto", "chat", "none"] = "auto"
    system: str | None = None
    shots: tuple[tuple[str, str], ...] = Field(default=())

    @property
    def before(self) -> tuple[tuple[str, str], ...]:
        """The turns (role, content) that stand before a question and its history."""
        system = () if self.system is None else (("system", self.system),)
        asked = (turn for q, a in self.shots for turn in (("user", q), ("assistant", a)))
        return (*system, *asked)

    def facts(self) -> dict[str, Any]:
        """What differs from the default, as plain data."""
        return self.model_dump(mode="json", exclude_defaults=True)


@contextmanager
def asked_as(model: Any, prompting: Prompting | None) -> Iterator[None]:
    """While open, the model's questions are put so; None leaves them as they are. UserError as `ask_as`."""
    if prompting is None:
        yield
        return
    reader = model.reader
    own = reader.prompting
    try:
        reader.ask_as(prompting)
        yield
    finally:
        reader.prompting = own
