"""A toy backend with named tensors, its mask, and files of its weights, for the guard room's tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from oubliette.core.manifest import fingerprint
from oubliette.guard.mask import Mask

SHAPES = {
    "unet.conv_in.weight": (8, 4, 3, 3),
    "unet.conv_in.bias": (8,),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (32, 24),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.weight": (32, 32),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.bias": (32,),
    "unet.up_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight": (32, 40),
    "unet.mid_block.resnets.0.conv1.weight": (16, 8, 3, 3),
    "unet.conv_out.weight": (4, 8, 3, 3),
}
TO_K = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
TO_OUT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.weight"
CONV = "unet.mid_block.resnets.0.conv1.weight"
FROZEN = [TO_K, TO_OUT, CONV]


class Toy:
    """As much of a backend as a mask asks for, with random weights."""

    kind = "diffusion"
    world = None

    def __init__(self, dtype: torch.dtype = torch.float32, seed: int = 0, source: str = "toy") -> None:
        rng = torch.Generator().manual_seed(seed)
        self.source = source
        self.held = {
            name: nn.Parameter(torch.randn(shape, generator=rng).to(dtype), requires_grad=False)
            for name, shape in SHAPES.items()
        }

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def tensors(self) -> dict[str, nn.Parameter]:
        return dict(self.held)

    def text_facing(self) -> list[str]:
        return [TO_K]

    def groups(self) -> dict[str, list[str]]:
        return {}

    def modules(self) -> dict[str, nn.Module]:
        return {}

    def fingerprint(self) -> str:
        return fingerprint(self.held)

    def save(self, folder: Path | str, **options: Any) -> None:
        raise NotImplementedError


def mask(model: Any = None, names: list[str] | None = None, **facts: Any) -> Mask:
    """The toy's mask."""
    return Mask.make(Toy() if model is None else model, FROZEN if names is None else names, **facts)


def values(model: Any = None) -> dict[str, Tensor]:
    """The toy's weights, to be changed and written."""
    return {name: tensor.detach().clone() for name, tensor in (model or Toy()).tensors().items()}


def write(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> Path:
    """A safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, str(path), metadata=metadata or None
    )
    return path


def one_line(error: BaseException) -> str:
    """An error's text, checked to be one line of a sensible length."""
    text = str(error)
    assert text, "says nothing"
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 900
    return text
