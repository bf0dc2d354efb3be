"""Quantization: weights as few bits hold them, which may undo an erasure that moved them by less."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from oubliette.attack.probes.weights import WeightProbe
from oubliette.core.validation import StrictModel

__all__ = ["NF4", "Quantize", "nf4", "round_to_nearest"]

#: The sixteen levels of NormalFloat4 (Dettmers et al., QLoRA, NeurIPS 2023, 2305.14314, appendix E).
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
_BLOCK = 64


class Quantize(WeightProbe):
    """Weights rounded to `bits` and back, as anyone who deploys a model saves memory.

    `scheme` "rtn" is round-to-nearest with one scale for each output row, or for each `group` of a row's
    numbers; "nf4" the NormalFloat of QLoRA, 4 bits in blocks of 64 (`group` changes that). Only the weights
    are rounded; activations and the arithmetic stay as they are. That 4 bits can bring back what was erased:
    Zhang et al., 2410.16454; NF4: 2605.02196.
    """

    name: ClassVar[str] = "quantize"
    about: ClassVar[str] = "rounding the weights of linear layers to few bits"
    paper: ClassVar[str] = "Zhang et al., ICLR 2025 (2410.16454); DurableUn (2605.02196); QLoRA (2305.14314)"

    class Options(StrictModel):
        """`bits` and `scheme`; `group`: how many numbers share a scale, None: a row (rtn), 64 (nf4)."""

        bits: int = Field(default=4, ge=2, le=8)
        scheme: Literal["rtn", "nf4"] = "rtn"
        group: int | None = Field(default=None, ge=1)

        @model_validator(mode="after")
        def _four(self) -> Any:
            if self.scheme == "nf4" and self.bits != 4:
                raise ValueError(f"nf4 has 4 bits, found {self.bits}; 'scheme: rtn' has any from 2 to 8")
            return self

    @property
    def words(self) -> str:
        """ "4 bits, a scale for each row"."""
        bits, group = self.options.bits, self.options.group
        if self.options.scheme == "nf4":
            return f"NF4, blocks of {group or _BLOCK}"
        return f"{bits} bits, a scale for each {'row' if group is None else f'{group} of a row'}"

    def changed(self, name: str, weight: Tensor) -> Tensor:
        """The values that the quantized weight stands for."""
        if self.options.scheme == "nf4":
            return nf4(weight, self.options.group or _BLOCK)
        return round_to_nearest(weight, self.options.bits, self.options.group)


def round_to_nearest(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """`weight` (rows, columns) on a symmetric grid of `bits`: scale x round(weight / scale), ties to even.

    The scale is the largest magnitude over 2^(bits - 1) - 1, of each row or of each `group` of its columns
    (the last may be shorter). That of a row: LLM.int8's weights (Dettmers et al., 2208.07339).
    """
    top = 2 ** (bits - 1) - 1
    parts = weight.split(weight.shape[1] if group is None else group, dim=1)
    scales = [part.abs().amax(dim=1, keepdim=True) / top for part in parts]
    # A row of zeros has no scale; one so small that its scale is not a number of this dtype counts as zero.
    return torch.cat(
        [
            torch.where(scale > 0, (part / scale).round().clamp(-top, top) * scale, torch.zeros_like(part))
            for part, scale in zip(parts, scales, strict=True)
        ],
        dim=1,
    )


def nf4(weight: Tensor, block: int = _BLOCK) -> Tensor:
    """`weight` with every number at the nearest NF4 level times its block's largest magnitude.

    Blocks are `block` numbers in a row in the order of storage, across rows; the last may be shorter. The
    magnitudes stay in fp32 (no double quantization).
    """
    levels = torch.tensor(NF4, dtype=weight.dtype, device=weight.device)
    flat = weight.flatten()
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    largest = padded.abs().amax(dim=1, keepdim=True)
    unit = torch.where(largest > 0, padded / largest, torch.zeros_like(padded))
    nearest = levels[torch.bucketize(unit, (levels[1:] + levels[:-1]) / 2)]
    return (nearest * largest).flatten()[: len(flat)].view(weight.shape)
