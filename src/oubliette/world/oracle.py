"""The oracle: an independent classifier that says what is in a world picture, or that nothing is.

One small convolutional network with a head each for object, style, colour and person. Every head has a
class "none";
noise, blur beyond recognition and blends of two pictures are "none", so that rubbish is not mistaken for a
concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_object


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 2) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(8, after)
        self.conv = nn.Conv2d(after, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, after)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.down(x)))
        return x + F.silu(self.norm2(self.conv(x)))


class OracleNet(nn.Module):
    """Logits by head for pictures (n, 3, side, side) in [-1, 1]; every stage halves the side, the first where
    `first_stride` is 2 (1 for small pictures)."""

    def __init__(
        self,
        heads: dict[str, int],
        widths: Sequence[int] = (24, 48, 96, 128),
        pool: int = 4,
        first_stride: int = 2,
    ) -> None:
        super().__init__()
        strides = (first_stride, *([2] * (len(widths) - 1)))
        self.stages = nn.Sequential(
            *(Block(b, a, s) for b, a, s in zip((3, *widths[:-1]), widths, strides, strict=True))
        )
        self.pool = pool
        self.trunk = nn.Linear(widths[-1] * pool * pool, 192)
        self.heads = nn.ModuleDict({name: nn.Linear(192, n) for name, n in heads.items()})

    def features(self, pictures: Tensor) -> Tensor:
        """What the heads read: (n, 192)."""
        x = F.adaptive_avg_pool2d(self.stages(pictures), self.pool).flatten(1)
        return F.silu(self.trunk(x))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        x = self.features(pictures)
        return {name: head(x) for name, head in self.heads.items()}


class Oracle:
    """A trained oracle: `classes` maps each head to its names, "none" among them."""

    def __init__(self, net: OracleNet, classes: dict[str, list[str]], side: int) -> None:
        self.net, self.classes, self.side = net.eval(), classes, side

    @torch.no_grad()
    def predict(self, pictures: np.ndarray, batch: int = 256) -> dict[str, np.ndarray]:
        """Names by head, arrays of str (n,), for uint8 pictures (n, H, W, 3); other sizes are resized."""
        found: dict[str, list[np.ndarray]] = {head: [] for head in self.classes}
        for start in range(0, len(pictures), batch):
            x = (
                torch.from_numpy(np.ascontiguousarray(pictures[start : start + batch]))
                .permute(0, 3, 1, 2)
                .float()
            )
            if x.shape[-1] != self.side:
                x = F.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)
            for head, logits in self.net(x / 127.5 - 1).items():
                found[head].append(np.array(self.classes[head])[logits.argmax(1).numpy()])
        return {
            head: np.concatenate(parts) if parts else np.array([], dtype=str) for head, parts in found.items()
        }


def load(folder: Path | None = None) -> Oracle:
    """Opens an oracle folder (`oracle.json` + `model.safetensors`); without one, the embedded nano-oracle."""
    if folder is None:
        from oubliette.world import embedded

        folder = embedded.path("nano-oracle")
        if folder is None:
            raise UserError("the embedded nano-oracle is missing from this installation; reinstall oubliette")
    config_path = Path(folder) / "oracle.json"
    if not config_path.is_file():
        raise UserError(
            f"{folder}: no oracle.json there; an oracle folder holds oracle.json and model.safetensors"
        )
    config = read_object(config_path)
    try:
        heads = {head: len(names) for head, names in config["classes"].items()}
        net = OracleNet(heads, **config.get("net", {}))
        weights = load_file(Path(folder) / "model.safetensors")
        net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        return Oracle(net, config["classes"], config["side"])
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder}: not an oracle that can be opened ({said})") from error
