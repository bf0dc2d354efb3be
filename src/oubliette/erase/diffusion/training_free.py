"""What the training-free erasers share: an attachment that is its settings, and the words they look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel, validated
from oubliette.erase.request import ErasureRequest

__all__ = ["SettingsAlone", "TrainingFree", "words_of"]

A = TypeVar("A", bound="SettingsAlone")


class SettingsAlone(StrictModel):
    """An attachment whose fields are all there is of it (`oubliette.backends.attachment.Attachment`).

    What it needs of the model's own making (embeddings, values) it asks the model for whenever a batch is
    drawn: opening it so gives the same bits, and weights that were fine-tuned since are taken as they are.
    """

    name: ClassVar[str]

    words: tuple[str, ...] = Field(min_length=1)
    """What is not to be drawn: names and synonyms, one text each."""

    @classmethod
    def build(cls: type[A], settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> A:
        """From what `settings` gave; UserError for unknown or wrong settings, and for tensors."""
        if tensors:
            raise UserError(f"attachment '{cls.name}' has no tensors, found {', '.join(sorted(tensors))}")
        return validated(cls, settings, f"attachment '{cls.name}'")

    def settings(self) -> dict[str, Any]:
        """Every field, as plain data."""
        return self.model_dump(mode="json")

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}


class TrainingFree:
    """A method that moves nothing: it makes an attachment of its options and the request."""

    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "attached"

    def __init__(self, options: Any, request: ErasureRequest) -> None:
        self.options = options
        self.request = request


def words_of(request: ErasureRequest) -> tuple[str, ...]:
    """The names of all concepts with their synonyms, in order, each once."""
    return tuple(dict.fromkeys(word for concept in request.concepts for word in concept.words))
