"""Several processes of one run: who they are, and where their gradients are averaged."""

from __future__ import annotations

from torch import Tensor

__all__ = ["Processes"]


class Processes:
    """The processes `accelerate launch` started; one alone where nothing was launched."""

    def __init__(self) -> None:
        from accelerate import PartialState

        self._state = PartialState()
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
