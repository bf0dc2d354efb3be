"""Low-rank updates of the text-facing projections that take attention away from tokens inside masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.core.errors import UserError
from oubliette.core.progress import Tick
from oubliette.erase.diffusion.attention import Attended, attention_layers, token_map, watching
from oubliette.erase.edit import Factors

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

__all__ = ["Subject", "added", "attention_inside", "importance", "masks_of", "suppress"]

_MASKED_AT_ONCE = 8


class Subject:
    """What one concept is shown as: latents (n, C, h, w), their prompts, and the prompts' token positions."""

    def __init__(self, latents: Tensor, prompts: Sequence[str], tokens: Sequence[Sequence[int]]) -> None:
        self.latents, self.prompts, self.tokens = latents, list(prompts), [list(each) for each in tokens]

    def __len__(self) -> int:
        return len(self.prompts)

    def look(
        self,
        model: DiffusionBackend,
        items: Sequence[int],
        weights: Tensor,
        rng: torch.Generator,
    ) -> list[Attended]:
        """What the model attends to at the items' pictures, noised to timesteps drawn by `weights` (T,)."""
        clean = self.latents[list(items)]
        t = torch.multinomial(weights, len(items), replacement=True, generator=rng).to(model.device)
        noise = torch.randn(clean.shape, generator=rng).to(model.device)
        noisy = model.add_noise(clean.to(noise), noise, t).to(model.dtype)
        with watching(attention_layers(model)) as seen:
            model.predict(noisy, t, model.encode_text([self.prompts[index] for index in items]))
        return list(seen)


def importance(timesteps: int) -> Tensor:
    """MACE's weights (timesteps,) for drawing t: sigmoid(0.05 (t - 200)) - sigmoid(0.05 (t - 400)), t of
    1000.
    """
    t = torch.arange(timesteps, dtype=torch.float64) * (1000 / timesteps)
    return torch.sigmoid(0.05 * (t - 200)) - torch.sigmoid(0.05 * (t - 400))


@torch.no_grad()
def masks_of(
    model: DiffusionBackend,
    subject: Subject,
    *,
    share: float,
    draws: int,
    weights: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """Where each picture shows the concept: masks (n, side, side), boolean, side that of the finest layer.

    The attention that the subject's tokens get, averaged over heads, layers and `draws` noised copies, where
    it is at least `share` of its greatest value in that picture. With `share` 0 a mask is the whole picture.
    """
    found = []
    for first in range(0, len(subject), _MASKED_AT_ONCE):
        items = range(first, min(first + _MASKED_AT_ONCE, len(subject)))
        total: Tensor | float = 0.0
        for _ in range(draws):
            seen = subject.look(model, items, weights, rng)
            side = max(each.side for each in seen)
            total = total + token_map(seen, [subject.tokens[index] for index in items], side).float()
        assert isinstance(total, Tensor)
        found.append(total >= share * total.amax(dim=(1, 2), keepdim=True))
    return torch.cat(found)


def attention_inside(
    seen: Sequence[Attended],
    tokens: Sequence[Sequence[int]],
    masks: Tensor,
    norm: Literal["squared", "absolute"],
) -> Tensor:
    """How much each picture's tokens are attended to inside its mask (B, side, side), over all layers.

    The mean of the squared or absolute probabilities over heads, masked pixels and tokens, averaged over
    pictures and layers: ||A * M||^2 of MACE but for a factor. A coarser layer's pixel is inside if any part
    of it is.
    """
    parts = []
    for each in seen:
        side = each.side
        inside = F.adaptive_max_pool2d(masks.float().unsqueeze(1), side).flatten(1) > 0
        for index, chosen in enumerate(tokens):
            found = each.probabilities[index][:, inside[index].to(each.probabilities.device)]
            found = found[:, :, list(chosen)].float()
            parts.append((found.square() if norm == "squared" else found.abs()).mean())
    return torch.stack(parts).mean()


@contextmanager
def added(model: DiffusionBackend, factors: Mapping[str, Factors]) -> Iterator[None]:
    """While open, each named linear weight acts as W + up @ down, with a graph to both; W itself is not
    touched.
    """

    def hook(up: Tensor, down: Tensor) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def more(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return output + F.linear(F.linear(inputs[0], down.to(inputs[0])), up.to(output))

        return more

    handles = []
    for name, (up, down) in factors.items():
        component, path = name.split(".", 1)
        module = model.modules()[component].get_submodule(path.rsplit(".", 1)[0])
        handles.append(module.register_forward_hook(hook(up, down)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def suppress(
    model: DiffusionBackend,
    names: Sequence[str],
    subject: Subject,
    masks: Tensor,
    *,
    rank: int,
    steps: int,
    batch: int,
    learning_rate: float,
    norm: Literal["squared", "absolute"],
    weights: Tensor,
    rng: torch.Generator,
    tick: Tick = lambda done, note: None,
) -> dict[str, Factors]:
    """Train one low-rank update of each named weight that minimises `attention_inside`; Adam, fp32.

    `down` (rank, in) starts Gaussian with deviation 1 / rank, `up` (out, rank) at zero. The model's own
    weights stay as they are. Gives back the factors by name, detached, in fp64. UserError if no named weight
    has any say in the attention.
    """
    tensors = model.tensors()
    factors: dict[str, Factors] = {}
    for name in names:
        out, width = tensors[name].shape
        down = torch.randn(rank, width, generator=rng).to(model.device) / rank
        factors[name] = (torch.zeros(out, rank, device=model.device).requires_grad_(), down.requires_grad_())
    optimiser = torch.optim.Adam([half for pair in factors.values() for half in pair], lr=learning_rate)
    with torch.enable_grad(), added(model, factors):
        for step in range(steps):
            items = torch.randint(len(subject), (batch,), generator=rng).tolist()
            seen = subject.look(model, items, weights, rng)
            loss = attention_inside(seen, [subject.tokens[index] for index in items], masks[items], norm)
            if not loss.requires_grad:
                raise UserError(
                    "MACE: none of the tensors in the scope has a say in the attention; use scope xattn-kv"
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            tick(step + 1, f"attention {float(loss.detach()):.3g}")
    return {name: (up.detach().double(), down.detach().double()) for name, (up, down) in factors.items()}
