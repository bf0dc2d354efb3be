"""Optimisers, their state as flat tensors, and fp32 masters of 16-bit weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from oubliette.train.config import TrainConfig

__all__ = ["Masters", "build_optimizer", "load_optimizer_state", "optimizer_state"]


def build_optimizer(parameters: Sequence[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser a config names; for `sgd`, the first beta is the momentum."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.betas[0],
            weight_decay=config.weight_decay,
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over each tensor: a third of the time on a CPU
    )


def optimizer_state(optimizer: torch.optim.Optimizer, prefix: str = "optimizer.") -> dict[str, Tensor]:
    """The optimiser's state as flat tensors named "<prefix><index>.<key>", fit for a safetensors file.

    The tensors are the optimiser's own, not copies.
    """
    flat: dict[str, Tensor] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                flat[f"{prefix}{index}.{key}"] = value
            elif value is not None:
                raise TypeError(
                    f"{type(optimizer).__name__} keeps '{key}' as {type(value).__name__}, not a tensor"
                )
    return flat


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor], prefix: str = "optimizer."
) -> None:
    """Take back what `optimizer_state` gave with the same prefix; other names in `state` are left alone."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith(prefix):
            index, _, key = name.removeprefix(prefix).partition(".")
            # Cloned, because the optimiser updates the tensors it is given in place.
            entries.setdefault(int(index), {})[key] = tensor.clone()
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})


class Masters:
    """What the optimiser moves: each parameter itself, or an fp32 copy of it where it has 16 bits.

    An update of 1e-5 is lost on a bf16 weight of 1: it is collected in the copy, and the weight is its
    rounding. `names` are those that a checkpoint keeps `tensors` under.
    """

    names: list[str]
    tensors: list[nn.Parameter]

    def __init__(self, parameters: Sequence[nn.Parameter], names: Sequence[str] = ()) -> None:
        self._parameters = list(parameters)
        self.names = list(names)
        self.tensors = [
            nn.Parameter(parameter.detach().float()) if parameter.dtype.itemsize < 4 else parameter
            for parameter in self._parameters
        ]

    @torch.no_grad()
    def move(self, deltas: Sequence[Tensor]) -> None:
        """Add to what the optimiser moves, ahead of its step."""
        for master, delta in zip(self.tensors, deltas, strict=True):
            master.copy_(master.to(delta.dtype) + delta)

    def take(self, gradients: Sequence[Tensor]) -> None:
        """Hand the weights' gradients (fp32, one each) to the optimiser's tensors."""
        for master, gradient in zip(self.tensors, gradients, strict=True):
            master.grad = gradient

    def exact(self) -> list[Tensor]:
        """The weights before they were rounded, one each: the weight itself where it is not."""
        return [master.detach() for master in self.tensors]

    @torch.no_grad()
    def push(self) -> None:
        """Round the fp32 copies into the weights, and let whoever caches by a weight's version know."""
        for parameter, master in zip(self._parameters, self.tensors, strict=True):
            if master is not parameter:
                parameter.copy_(master)
            else:
                # A fused step changes a tensor without counting it: text embeddings would be taken for fresh.
                torch.autograd.graph.increment_version(parameter)

    @torch.no_grad()
    def load(self, values: Sequence[Tensor]) -> None:
        """Write the values into masters and weights, in place."""
        for master, value in zip(self.tensors, values, strict=True):
            master.copy_(value)
        self.push()
