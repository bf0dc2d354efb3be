"""What a stream carries from stage to stage, and the way back: weights, or an attachment that grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from oubliette.erase.result import AttachedEdit, Reversible

if TYPE_CHECKING:
    from torch import Tensor, nn

    from oubliette.erase.result import EraseResult
    from oubliette.train.weights import Weights
    from oubliette.workflows.continual.requests import Stage

__all__ = ["Carried", "StreamAttachment", "StreamEdit", "carrier_of"]


class Carried(Reversible, Protocol):
    """What the stages so far made of the model in memory; its original is what the stream began with."""

    def keep(self, result: EraseResult) -> None:
        """Take in what a stage that was just run has changed."""
        ...

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        """Write the model as it is to a stage's folder, against the base, in all its bits."""
        ...

    def open(self, folder: Path) -> None:
        """Make the model in memory that of a stage's folder."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the model differs in from the base, as tensors and plain data."""
        ...

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Make the model in memory that of such a state."""
        ...


class StreamEdit:
    """The tensors that the stages so far were free to move, and what they were before; deltas on disk."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._held: dict[str, tuple[nn.Parameter, Tensor]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._held)

    @contextmanager
    def originals(self) -> Iterator[None]:
        held = [parameter.data for parameter, _ in self._held.values()]
        try:
            for parameter, original in self._held.values():
                parameter.data = original.to(parameter.device)
            yield
        finally:
            for (parameter, _), value in zip(self._held.values(), held, strict=True):
                parameter.data = value

    def restore(self) -> None:
        import torch

        with torch.no_grad():
            for parameter, original in self._held.values():
                parameter.copy_(original)

    def keep(self, result: EraseResult) -> None:
        weights = cast("Weights", result.weights)
        for name, parameter in zip(weights.names, weights.parameters, strict=True):
            self._held.setdefault(name, (parameter, weights.original[name]))

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        held = next(iter(self._model.tensors().values())).dtype
        self._model.save(folder, form="delta", record=record, dtype=held)

    def open(self, folder: Path) -> None:
        """The delta's tensors, in the place of the base's."""
        from oubliette.backends.files.delta import read_delta
        from oubliette.backends.files.stored import canonical

        values, _ = read_delta(folder)
        own = {canonical(name): name for name in self._model.tensors()}
        self.load({own[canonical(name)]: value for name, value in values.items()}, {})

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {name: parameter.detach() for name, (parameter, _) in self._held.items()}, {}

    def load(self, named: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """The base's values are held first."""
        import torch

        tensors = self._model.tensors()
        for name in named:
            if name not in self._held:
                self._held[name] = (tensors[name], tensors[name].detach().clone())
        self.restore()
        with torch.no_grad():
            for name, value in named.items():
                tensors[name].copy_(value)


class StreamAttachment(AttachedEdit):
    """An attachment that grows with each stage; what was attached at the beginning, if anything, is the
    original.
    """

    def keep(self, result: EraseResult) -> None:
        """Nothing: no tensor of the model moved."""

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        self._model.save(folder, form="attached", record=record)

    def open(self, folder: Path) -> None:
        from oubliette.backends.attachment import read_attachment

        self._model.hold(read_attachment(folder))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        held = self._model.attachment
        if held is None:
            return {}, {}
        return dict(held.tensors()), {"attachment": held.name, "settings": held.settings()}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        from oubliette.backends.attachment import ATTACHMENTS

        made = ATTACHMENTS.get(facts["attachment"]).build(facts["settings"], dict(tensors)) if facts else None
        self._model.hold(made)


def carrier_of(stage: Stage) -> type[StreamEdit] | type[StreamAttachment]:
    """What carries a stream of such stages, which are all of one kind (`requests.settle`)."""
    from oubliette.erase import METHODS

    attached = METHODS.get(stage.recipe.method["name"]).solution == "attached"
    return StreamAttachment if attached else StreamEdit
