"""A small residual classifier of pictures as a backend: what learns task after task on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from oubliette.backends.device import default_device
from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, fingerprint, read_object, refuse_existing, write_json
from oubliette.core.manifest import record as make_record
from oubliette.core.writing import write_tensors
from oubliette.world.oracle import OracleNet

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.backends.files.lora_form import Factors

__all__ = ["ClassifierBackend", "GaussianNet"]

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
#: Log std of a Gaussian weight at the start: small beside the weights (ours).
_LOG_STD = -5.0


class _Net(nn.Module):
    """The world's small residual network with one head."""

    def __init__(self, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.body = OracleNet({"class": classes}, widths, pool=2)

    def forward(self, pictures: Tensor, noise: int | None = None) -> Tensor:
        found: Tensor = self.body(pictures)["class"]
        return found


class GaussianNet(nn.Module):
    """A network whose every weight is a Gaussian: N(mean, std^2), with log std a parameter of its own.

    With a seed for its noise it computes with weights drawn by mean + std * z, which gradients reach (Kingma
    and Welling 2014); without, with the means.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.mean = net
        self.log_std = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(torch.full_like(tensor, _LOG_STD))
                for name, tensor in net.named_parameters()
            }
        )

    def forward(self, pictures: Tensor, noise: int | None = None) -> Tensor:
        if noise is None:
            found: Tensor = self.mean(pictures)
            return found
        rng = torch.Generator().manual_seed(noise)
        drawn = {}
        for name, mean in self.mean.named_parameters():
            z = torch.randn(mean.shape, generator=rng, dtype=mean.dtype).to(mean.device)
            drawn[name] = mean + self.log_std[name.replace(".", "/")].exp() * z
        found = torch.func.functional_call(self.mean, drawn, (pictures,))
        return found


class ClassifierBackend:
    """A residual network over pictures of one side, with group norms (no running statistics).

    `classes` are its outputs' names. `gaussian` makes every weight a Gaussian (`GaussianNet`); its tensors
    are then "net.mean.NAME" and "net.log_std.NAME" with "/" for ".".
    """

    kind = "classifier"
    source = "memory"
    world: str | None = None

    def __init__(
        self,
        classes: Sequence[str],
        side: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        gaussian: bool = False,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        self.classes, self.side, self.widths, self.gaussian = tuple(classes), side, tuple(widths), gaussian
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = _Net(len(self.classes), widths)
        self.net: nn.Module = GaussianNet(net) if gaussian else net
        self.net.to(torch.device(device) if device is not None else default_device())

    @classmethod
    def open(cls, folder: Path | str, device: str | torch.device | None = None) -> ClassifierBackend:
        """What `save` wrote; UserError for a folder that holds no such classifier."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder)
        try:
            facts = read_object(path / _CONFIG)
            made = cls(
                **{key: facts[key] for key in ("classes", "side", "widths", "gaussian")}, device=device
            )
            made.net.load_state_dict(load_file(path / _WEIGHTS))
        except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{path}: not a classifier of this package ({error})") from error
        made.source = str(folder)
        return made

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.net.parameters()).device

    def logits(self, pictures: Tensor, noise: int | None = None) -> Tensor:
        """(n, classes) for uint8 pictures (n, side, side, 3); Gaussian weights of the seed `noise`."""
        dtype = next(self.net.parameters()).dtype
        x = pictures.to(self.device).permute(0, 3, 1, 2).to(dtype) / 127.5 - 1
        found: Tensor = self.net(x, noise)
        return found

    def tensors(self) -> dict[str, nn.Parameter]:
        """Every parameter."""
        return {f"net.{name}": tensor for name, tensor in self.net.named_parameters()}

    def text_facing(self) -> list[str]:
        """None."""
        return []

    def groups(self) -> dict[str, list[str]]:
        """None."""
        return {}

    def modules(self) -> dict[str, nn.Module]:
        """The one network."""
        return {"net": self.net}

    def fingerprint(self) -> str:
        """A sha256 of all weights."""
        return fingerprint({name: tensor.detach() for name, tensor in self.tensors().items()})

    def rehearse(self, count: int) -> Tensor:
        """Logits of `count` grey pictures."""
        return self.logits(torch.full((count, self.side, self.side, 3), 127, dtype=torch.uint8))

    def save(
        self,
        folder: Path | str,
        *,
        form: str = "full",
        base: Backend | None = None,
        record: dict[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        rank: int | None = None,
        energy: float | None = None,
        factors: Factors | None = None,
    ) -> None:
        """Weights, config and record in a new folder; UserError for a form other than "full"."""
        if form != "full":
            raise UserError(f"a classifier is saved full, found form '{form}'")
        refuse_existing(folder)
        with atomic_folder(folder) as draft:
            state = {key: value.detach().cpu().contiguous() for key, value in self.net.state_dict().items()}
            write_tensors(draft / _WEIGHTS, state)
            facts = {"classes": self.classes, "side": self.side, "widths": self.widths}
            write_json(draft / _CONFIG, {**facts, "gaussian": self.gaussian})
            write_json(draft / "oubliette.json", make_record(**(record or {})))
