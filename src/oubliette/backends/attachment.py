"""What goes with a model, not into its weights: a module or a wrapper, removable by who holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_object, update_digest, write_json
from oubliette.core.registry import Registry
from oubliette.core.writing import write_tensors

if TYPE_CHECKING:
    from oubliette.backends.guidance import Guidance, Guide

__all__ = ["ATTACHED", "ATTACHMENTS", "Attachable", "Attachment", "read_attachment", "write_attachment"]

ATTACHED, TENSORS = "attached.json", "attached.safetensors"

ATTACHMENTS: Registry[type[Attachment]] = Registry(
    "attachment",
    {
        "sld": "oubliette.erase.diffusion.sld:SafetyGuidance",
        "safree": "oubliette.erase.diffusion.safree:PromptFilter",
        "adavd": "oubliette.erase.diffusion.adavd:ValueDecomposer",
        "receler": "oubliette.erase.diffusion.receler_adapters:RecelerAdapters",
    },
)
"""What a folder with `attached.json` may hold, by the name in it."""


class Attachment(Protocol):
    """Changes what a model draws and leaves its weights alone: settings and tensors, nothing else."""

    name: ClassVar[str]
    """Its name in `ATTACHMENTS`."""

    @classmethod
    def build(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Attachment:
        """What `settings` and `tensors` gave, made anew; UserError where they do not fit."""

    def settings(self) -> dict[str, Any]:
        """All that is not a tensor, as plain data that JSON keeps."""

    def tensors(self) -> dict[str, Tensor]:
        """Its own weights by name; {} where it has none."""

    def guide(self, model: Any, plain: Guidance) -> Guide:
        """One batch's predictions, given the model's own way of making them; called anew for every batch."""


class Attachable:
    """The half of a backend that an attachment hangs on: at most one, in force in whatever is drawn."""

    source: str
    attachment: Attachment | None = None

    def attach(self, attachment: Attachment) -> None:
        """Let `attachment` go with the model; UserError where one does already."""
        if self.attachment is not None:
            raise UserError(
                f"{self.source}: '{self.attachment.name}' is attached already; "
                "one attachment goes with a model, which may hold several concepts"
            )
        self.attachment = attachment

    def detach(self) -> None:
        """Take the attachment off: what anyone who holds the weights can do."""
        self.attachment = None

    @contextmanager
    def detached(self) -> Iterator[None]:
        """The model without its attachment, inside the block."""
        held, self.attachment = self.attachment, None
        try:
            yield
        finally:
            self.attachment = held

    def attachment_digest(self) -> str | None:
        """A sha256 of the attachment's name, settings and tensors; None where there is none."""
        if self.attachment is None:
            return None
        digest = hashlib.sha256()
        digest.update(json.dumps([self.attachment.name, self.attachment.settings()], sort_keys=True).encode())
        for name, tensor in sorted(self.attachment.tensors().items()):
            update_digest(digest, name, tensor.detach())
        return digest.hexdigest()


def write_attachment(folder: Path, attachment: Attachment) -> None:
    """Write `attached.json`, and `attached.safetensors` where the attachment has tensors."""
    write_json(folder / ATTACHED, {"attachment": attachment.name, "settings": attachment.settings()})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in attachment.tensors().items()}
    if tensors:
        write_tensors(folder / TENSORS, tensors, {"format": "pt"})


def read_attachment(folder: Path) -> Attachment:
    """The attachment in a folder; UserError where its files cannot be read or name an unknown one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = read_object(folder / ATTACHED)
    name, settings = found.get("attachment"), found.get("settings")
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise UserError(f"{folder / ATTACHED}: expected 'attachment' (a name) and 'settings' (a mapping)")
    tensors: dict[str, Tensor] = {}
    if (folder / TENSORS).is_file():
        try:
            tensors = load_file(str(folder / TENSORS))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{folder / TENSORS}: not a readable safetensors file ({error})") from error
    return ATTACHMENTS.get(name).build(settings, tensors)
