"""Training a low-rank difference of each matrix, for any objective: the gradient is carried over, no module
is replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.train.optimizer import Masters
from oubliette.train.weights import Weights

__all__ = ["LowRank", "LowRankMasters", "matrices_in"]


def matrices_in(named: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The tensors of a scope that have a rank: linear and convolution weights; UserError where there are
    none.
    """
    found = {name: tensor for name, tensor in named.items() if tensor.ndim >= 2}
    if not found:
        raise UserError("scope.rank: the scope holds no matrix, so there is nothing of a low rank to train")
    return found


class LowRank(Weights):
    """Weights that may move by (alpha / rank) B A alone: A (rank, in), B (out, rank), a convolution's "in"
    being its channels times its kernel.

    A starts as N(0, 1 / rank^2), from `seed` and the tensor's name alone, and B as zero, so that the start is
    the original. This is LoRA (Hu et al., ICLR 2022, 2106.09685) without its layers: the loop takes the
    gradient G with respect to W, and dL/dB = s G A^T, dL/dA = s B^T G are exact. Surgery and smoothers so see
    the gradients of the weights themselves.
    """

    def __init__(
        self, named: Mapping[str, nn.Parameter], *, rank: int, alpha: float | None = None, seed: int = 0
    ) -> None:
        super().__init__(matrices_in(named))
        self.rank, self.alpha, self.seed = rank, float(rank if alpha is None else alpha), seed

    def _make_masters(self) -> LowRankMasters:
        return LowRankMasters(self)


class LowRankMasters(Masters):
    """What the optimiser moves: each matrix's two factors in fp32; their product goes into the weight."""

    def __init__(self, weights: LowRank) -> None:
        self._parameters = weights.parameters
        self._originals = list(weights.original.values())
        self._scale = weights.alpha / weights.rank
        self.names, self.tensors = [], []
        for name, parameter in zip(weights.names, weights.parameters, strict=True):
            rows, columns = parameter.shape[0], parameter[0].numel()
            digest = hashlib.sha256(f"low rank/{weights.seed}/{name}".encode()).digest()
            rng = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            down = torch.randn(weights.rank, columns, generator=rng) / weights.rank
            self.names += [f"{name}.lora_A", f"{name}.lora_B"]
            self.tensors += [
                nn.Parameter(down.to(parameter.device)),
                nn.Parameter(torch.zeros(rows, weights.rank, device=parameter.device)),
            ]

    @torch.no_grad()
    def take(self, gradients: Sequence[Tensor]) -> None:
        """Carry the weights' gradients over to the factors."""
        for down, up, gradient in zip(self.tensors[::2], self.tensors[1::2], gradients, strict=True):
            flat = gradient.flatten(1).float()
            up.grad = self._scale * flat @ down.T
            down.grad = self._scale * up.T @ flat

    @torch.no_grad()
    def exact(self) -> list[Tensor]:
        """original + scale B A, summed in fp32; the weight itself where that has fp32."""
        return [
            parameter.detach() if parameter.dtype.itemsize >= 4 else self._sum(index)
            for index, parameter in enumerate(self._parameters)
        ]

    @torch.no_grad()
    def push(self) -> None:
        """Write original + scale B A into the weights, summed in fp32 and rounded once."""
        for index, parameter in enumerate(self._parameters):
            parameter.copy_(self._sum(index))

    def _sum(self, index: int) -> Tensor:
        original, down, up = self._originals[index], self.tensors[2 * index], self.tensors[2 * index + 1]
        return original.float() + (self._scale * up @ down).view_as(original)
