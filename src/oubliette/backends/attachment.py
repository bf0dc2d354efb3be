"""What goes with a model, not into its weights: a module or a wrapper, removable by who holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from oubliette.backends.files.delta import base_facts, base_of
from oubliette.core.errors import UserError
from oubliette.core.manifest import (
    atomic_folder,
    read_manifest,
    read_object,
    update_digest,
    write_json,
    write_manifest,
)
from oubliette.core.registry import Registry
from oubliette.core.writing import write_tensors

if TYPE_CHECKING:
    from oubliette.backends.guidance import Guidance, Guide

__all__ = [
    "ATTACHED",
    "ATTACHMENTS",
    "Attachable",
    "Attachment",
    "Guides",
    "Installs",
    "read_attachment",
    "save_attached",
    "write_attachment",
]

ATTACHED, TENSORS = "attached.json", "attached.safetensors"

# Its members lie above this room, which imports none of them: whoever opens a folder must find what it names.
ATTACHMENTS: Registry[type[Attachment]] = Registry(
    "attachment",
    {
        "sld": "oubliette.erase.diffusion.sld:SafetyGuidance",
        "safree": "oubliette.erase.diffusion.safree:PromptFilter",
        "adavd": "oubliette.erase.diffusion.adavd:ValueDecomposer",
        "receler": "oubliette.erase.diffusion.receler_adapters:RecelerAdapters",
        "mrp": "oubliette.erase.language.projections:Projections",
    },
)
"""What a folder with `attached.json` may hold, by the name in it."""


class Attachment(Protocol):
    """Changes what a model makes and leaves its weights alone: settings and tensors, nothing else.

    How it does so is one of two further methods: `guide` (`Guides`) or `install` (`Installs`). A class that
    says `grows = True` can be gone on with: the method of its name, run on a model that holds one, gives one
    that forgets both (`oubliette erase --stream`).
    """

    name: ClassVar[str]
    """Its name in `ATTACHMENTS`."""

    @classmethod
    def build(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Attachment:
        """What `settings` and `tensors` gave, made anew; UserError where they do not fit."""

    def settings(self) -> dict[str, Any]:
        """All that is not a tensor, as plain data that JSON keeps."""

    def tensors(self) -> dict[str, Tensor]:
        """Its own weights by name; {} where it has none."""


@runtime_checkable
class Guides(Protocol):
    """An attachment that steps into a sampler: it speaks in drawing, and in nothing else."""

    def guide(self, model: Any, plain: Guidance) -> Guide:
        """One batch's predictions, given the model's own way of making them; called anew for every batch."""


@runtime_checkable
class Installs(Protocol):
    """An attachment that hooks a network: in force in every forward pass, of whoever makes it."""

    def install(self, model: Any) -> AbstractContextManager[None]:
        """Its hooks on the model's modules, while open; UserError where it was made for another model."""


class Attachable:
    """The half of a backend that an attachment hangs on: at most one, in force until it is taken off."""

    source: str
    attachment: Attachment | None = None
    _hooks: ExitStack | None = None

    def attach(self, attachment: Attachment) -> None:
        """Let `attachment` go with the model; UserError where one does already, or where it has no hold."""
        if self.attachment is not None:
            raise UserError(
                f"{self.source}: '{self.attachment.name}' is attached already; "
                "one attachment goes with a model, which may hold several concepts"
            )
        self.hold(attachment)

    def detach(self) -> None:
        """Take the attachment off: what anyone who holds the weights can do."""
        self.hold(None)

    def hold(self, attachment: Attachment | None) -> None:
        """Put `attachment` in the place of the one that is there; None for none."""
        if self._hooks is not None:
            self._hooks.close()
        self._hooks = self.attachment = None
        if isinstance(attachment, Installs):
            hooks = ExitStack()
            hooks.enter_context(attachment.install(self))
            self._hooks = hooks
        elif attachment is not None and not hasattr(self, "guide"):
            raise UserError(
                f"{self.source}: '{attachment.name}' guides a sampler, and this model has none; "
                "only what hooks a forward pass can be attached to it"
            )
        self.attachment = attachment

    @contextmanager
    def holding(self, attachment: Attachment | None) -> Iterator[None]:
        """The model with another attachment, or none, inside the block."""
        held = self.attachment
        self.hold(attachment)
        try:
            yield
        finally:
            self.hold(held)

    def detached(self) -> AbstractContextManager[None]:
        """The model without its attachment, inside the block."""
        return self.holding(None)

    def attachment_digest(self) -> str | None:
        """A sha256 of the attachment's name, settings and tensors; None where there is none."""
        if self.attachment is None:
            return None
        digest = hashlib.sha256()
        digest.update(json.dumps([self.attachment.name, self.attachment.settings()], sort_keys=True).encode())
        for name, tensor in sorted(self.attachment.tensors().items()):
            update_digest(digest, name, tensor.detach())
        return digest.hexdigest()

    def with_attachment(self, weights: str) -> str:
        """The fingerprint of weights of this fingerprint with what is attached to them."""
        own = self.attachment_digest()
        return weights if own is None else hashlib.sha256(f"{weights} {own}".encode()).hexdigest()

    def refuse_attached(self) -> None:
        """UserError where something is attached, for a form that holds weights alone."""
        if self.attachment is not None:
            raise UserError(
                f"{self.source}: '{self.attachment.name}' is attached, which no weights hold: "
                "save it attached"
            )


def save_attached(
    model: Any, folder: Path, facts: dict[str, Any], *, base: Any, stored: Callable[[], str]
) -> None:
    """Write the attachment and the name of the base it goes with, whose weights stay where they are.

    `stored` gives the fingerprint of the weights that `model` was opened from, where no `base` is given.
    UserError where nothing is attached, where the base lies on no disk, and where its weights were changed as
    well.
    """
    if model.attachment is None:
        raise UserError(f"{model.source}: nothing is attached that could be saved")
    source = model.source if base is None else base.source
    if (Path(source) / ATTACHED).is_file():
        source = base_of(source)
    if source == "memory":
        raise UserError(
            "a model wrapped in memory has no base on disk to go with: give base=..., or save it full, open "
            "that, and attach"
        )
    with model.detached():
        own = model.fingerprint()
    if base is not None:
        with base.detached():
            expected = base.fingerprint()
    else:
        recorded = read_manifest(Path(source)).get("fingerprint") if Path(source).is_dir() else None
        expected = recorded or stored()
    if own != expected:
        raise UserError(
            f"{source}: its weights were changed as well; save them full, open that, and attach to it"
        )
    facts["base"] = base_facts(source, own, folder)
    facts["fingerprint"] = model.with_attachment(own)
    with atomic_folder(folder) as target:
        write_attachment(target, model.attachment)
        write_manifest(target, facts)


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
