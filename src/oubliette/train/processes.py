"""Several processes of one run: who they are, and where their gradients are averaged."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Processes"]


class Processes:
    """The processes `accelerate launch` or torchrun started; one alone where nothing was launched.

    `device` is the model's: processes whose models lie on the CPU talk to each other over gloo.
    """

    def __init__(self, device: torch.device) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=device.type == "cpu")
        self.count: int = self._state.num_processes
        self.index: int = self._state.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs, checkpoints and results."""
        return self.index == 0

    def mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean over processes of each tensor; the very same tensors where there is one process."""
        if self.count == 1:
            return tensors
        from accelerate.utils import reduce

        return [reduce(tensor, reduction="mean") for tensor in tensors]

    def wait(self) -> None:
        """Until every process is here."""
        self._state.wait_for_everyone()
