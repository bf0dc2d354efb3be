"""Receler's adapters: a small network behind each cross-attention, which goes with the model and comes off
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.guidance import Guidance, Guide
from oubliette.backends.text import TextEmbedding
from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

__all__ = ["RecelerAdapters"]

_PARTS = ("down.weight", "down.bias", "up.weight", "up.bias")


class RecelerAdapters:
    """o -> o + U gelu(D o + d) + u behind each layer, o (B, pixels, channels) being what the layer puts out.

    In drawing it acts on what the prompt says and leaves the empty half of guidance alone: what is guided
    away from stays the model's own. Starts with U = u = 0, at which nothing changes. Weights in fp32, cast to
    the layer's dtype. The paper's adapters (2311.17717) are summarised as of rank 128 and no more: the form,
    two linear layers around a GELU with a residual, is this package's reading.
    """

    name: ClassVar[str] = "receler"

    def __init__(self, rank: int, weights: dict[str, nn.Parameter]) -> None:
        self.rank, self._weights = rank, weights
        self.layers = [name.removesuffix("." + _PARTS[0]) for name in weights if name.endswith(_PARTS[0])]

    @classmethod
    def untrained(
        cls, widths: dict[str, int], *, rank: int, seed: int, device: torch.device
    ) -> RecelerAdapters:
        """Fresh ones for layers (by name) of so many channels; D uniform as in `nn.Linear`."""
        rng = torch.Generator().manual_seed(seed)
        weights: dict[str, nn.Parameter] = {}
        for layer, width in widths.items():
            down = (2 * torch.rand(rank, width, generator=rng) - 1) / width**0.5
            parts = (down, torch.zeros(rank), torch.zeros(width, rank), torch.zeros(width))
            for part, value in zip(_PARTS, parts, strict=True):
                weights[f"{layer}.{part}"] = nn.Parameter(value.to(device))
        return cls(rank, weights)

    @classmethod
    def build(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> RecelerAdapters:
        """What was saved; UserError where a part is missing or of another shape."""
        rank = settings.get("rank")
        if not isinstance(rank, int) or not tensors:
            raise UserError("attachment 'receler': expected a rank in its settings, and its tensors")
        for name in tensors:
            layer = next(
                (name.removesuffix(f".{part}") for part in _PARTS if name.endswith(f".{part}")), name
            )
            found = [tensors.get(f"{layer}.{part}") for part in _PARTS]
            width = found[3]
            shapes = [None if each is None else tuple(each.shape) for each in found]
            channels = 0 if width is None else len(width)
            if shapes != [(rank, channels), (rank,), (channels, rank), (channels,)]:
                raise UserError(
                    f"attachment 'receler': '{layer}' has parts of shapes {shapes}, which do not make an "
                    f"adapter of rank {rank}"
                )
        return cls(rank, {name: nn.Parameter(tensor.float()) for name, tensor in sorted(tensors.items())})

    def settings(self) -> dict[str, Any]:
        """The rank."""
        return {"rank": self.rank}

    def tensors(self) -> dict[str, Tensor]:
        """Both linear layers of each adapter, as parameters."""
        return dict(self._weights)

    def added(self, layer: str, output: Tensor) -> Tensor:
        """What the layer's adapter adds to its output (B, pixels, channels)."""
        down, bias, up, shift = (self._weights[f"{layer}.{part}"].to(output.dtype) for part in _PARTS)
        return F.linear(F.gelu(F.linear(output, down, bias)), up, shift)

    @contextmanager
    def active(
        self, model: DiffusionBackend, *, skip: int = 0, seen: list[Tensor] | None = None
    ) -> Iterator[None]:
        """While open, the adapters act on the model's passes, but for the first `skip` rows of a batch.

        What each adds is appended to `seen`, in the order of the passes. UserError for a model without the
        layers.
        """
        handles = []
        try:
            for layer, module in self._modules(model):
                handles.append(module.register_forward_hook(self._hook(layer, skip, seen)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def guide(self, model: Any, plain: Guidance) -> Guide:
        """Guidance with the adapters at work on the prompt's half of each pass."""
        skip = len(plain.empty) if plain.guided else 0

        def predict(noisy: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
            with self.active(model, skip=skip):
                return plain.predict(noisy, t, text)

        return replace(plain, predict=predict)

    def _hook(self, layer: str, skip: int, seen: list[Tensor] | None) -> Any:
        def hook(_: nn.Module, __: Sequence[Any], output: Tensor) -> Tensor:
            added = self.added(layer, output[skip:])
            if seen is not None:
                seen.append(added)
            return torch.cat([output[:skip], output[skip:] + added]) if skip else output + added

        return hook

    def _modules(self, model: DiffusionBackend) -> list[tuple[str, nn.Module]]:
        for weight in self._weights.values():
            if weight.device != model.device:
                weight.data = weight.data.to(model.device)
        components, found = model.modules(), []
        for layer in self.layers:
            component, _, path = layer.partition(".")
            try:
                found.append((layer, components[component].get_submodule(path)))
            except (KeyError, AttributeError):
                raise UserError(
                    f"attachment 'receler' was made for a model with the layer '{layer}'; "
                    f"{model.source} has none"
                ) from None
        return found
