"""What every room may ask of a model, whatever it is: the interface a backend fulfils."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oubliette.backends.files.lora_form import Factors

FORMS = ("full", "delta", "lora", "attached")

# Names of the groups of weight tensors a backend knows, for scopes to build on.
TEXT_FACING = "text-facing"  # reads the text: keys and values of the cross-attention (UNet attn2.to_k, to_v)
CROSS_ATTENTION = "cross-attention"  # everything in those attention layers
DENOISER = "denoiser"  # the network that predicts noise or velocity
TEXT_ENCODER = "text-encoder"  # the network(s) that turn prompts into embeddings


@runtime_checkable
class Backend(Protocol):
    """A real model behind one small interface; it knows its family and nothing of forgetting."""

    kind: str
    """"diffusion" or "language"."""
    source: str
    """What it was opened from: an embedded name, a Hub id, a folder, or "memory"."""
    world: str | None
    """The name of the world it was trained on ("picture"), carried on by everything made from it; else None.
    What is known of that world, `oubliette.world.world.world_of` tells.
    """

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def tensors(self) -> dict[str, nn.Parameter]:
        """Every parameter that may be edited, by its full name ("unet.down_blocks.0...",
        "model.layers.0..."): the same names while adapters are trained over it, and then the base's values.
        """
        ...

    def text_facing(self) -> list[str]:
        """Names of the weight tensors that read the text, in the order of `tensors`; [] where there are
        none.
        """
        ...

    def groups(self) -> dict[str, list[str]]:
        """Named groups of tensor names (`TEXT_FACING`, `CROSS_ATTENTION`, ...) as the family's data says."""
        ...

    def modules(self) -> dict[str, nn.Module]:
        """The components that hold weights, by name: {"unet": ..., "text_encoder": ..., "vae": ...}."""
        ...

    def fingerprint(self) -> str:
        """A sha256 of all weights as they are now; equal to that of the stored bytes if nothing was
        changed.
        """
        ...

    def rehearse(self, count: int) -> torch.Tensor:
        """The network's output on `count` made-up rows of the usual size, to see what a pass costs; with a
        graph where gradients are on.
        """
        ...

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
        """Save to a new folder, atomically: "full" for the ecosystem's own loader, "delta" for what changed,
        "lora" for that as adapters of at most `rank`, or of the rank that keeps `energy` of the squared norm;
        by default exactly, as the `factors` where these are what changed.
        What changed is written in the base's dtype, or in `dtype`.
        """
        ...


def answers(model: Any) -> bool:
    """Whether a model answers questions."""
    return hasattr(model, "respond")


def draws(model: Any) -> bool:
    """Whether a model draws pictures."""
    return hasattr(model, "draw")
