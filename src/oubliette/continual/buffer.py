"""A buffer of rows seen before: a uniform sample of all that came, with the logits of when they came."""

from __future__ import annotations

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.gradients import step_rng

__all__ = ["Reservoir"]


class Reservoir:
    """`size` of the rows that were added, each with equal probability (Vitter 1985, algorithm R).

    A row is its number in the data set: pictures are in memory anyway. Who stays is drawn from (seed, rows
    seen so far) alone, so that resuming needs no state of a generator. UserError for a size below 1.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        if size < 1:
            raise UserError(f"a replay buffer holds at least one row, found {size}; --buffer 200 would do")
        self.size, self._seed = size, seed
        self.rows = torch.empty(0, dtype=torch.long)
        """Row numbers (n,), n up to `size`."""
        self.logits = torch.empty(0, 0)
        """What the model said of each row when it came, (n, classes)."""
        self.seen = 0
        """How many rows were added in all."""

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Tensor, logits: Tensor) -> None:
        """Take in rows (b,) with their logits (b, classes), one after another."""
        rng = step_rng(self._seed, self.seen, "reservoir")
        kept, said = self.rows.tolist(), list(self.logits)
        for row, out in zip(rows.tolist(), logits.detach().clone(), strict=True):
            self.seen += 1
            if len(kept) < self.size:
                kept.append(row)
                said.append(out)
                continue
            place = int(torch.randint(self.seen, (1,), generator=rng))
            if place < self.size:
                kept[place], said[place] = row, out
        self.rows, self.logits = torch.tensor(kept, dtype=torch.long), torch.stack(said)

    def draw(self, rng: torch.Generator, count: int) -> Tensor:
        """Places (min(count, n),) of rows in the buffer, none twice."""
        return torch.randperm(len(self), generator=rng)[:count]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return {"rows": self.rows, "logits": self.logits, "seen": torch.tensor(self.seen)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.rows, self.logits, self.seen = state["rows"].cpu(), state["logits"], int(state["seen"])
