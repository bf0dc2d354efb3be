"""Receler: adapters behind the cross-attention erase against an adversary, and only where the concept is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.text import TextEmbedding
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.attention import attention_layers, token_map, token_positions, watching
from oubliette.erase.diffusion.common import DiffusionObjective
from oubliette.erase.diffusion.esd import esd_target
from oubliette.erase.diffusion.receler_adapters import RecelerAdapters
from oubliette.erase.diffusion.turns import PromptSource, batch_pairs
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData


def region(maps: Tensor, threshold: float) -> Tensor:
    """Where a concept is: 1 where its map (B, side, side), each brought to [0, 1], exceeds the threshold."""
    flat = maps.float().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    unit = (flat - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    return (unit > threshold).float().view_as(maps)


def outside(added: list[Tensor], inside: Tensor) -> Tensor:
    """The mean square of what adapters add (B, pixels, channels) outside a region (B, side, side): the mean
    over elements, those inside counting as 0, then over layers. The region takes each layer's size by the
    nearest.
    """
    parts = []
    for each in added:
        side = round(each.shape[1] ** 0.5)
        here = (
            F.interpolate(inside.unsqueeze(1), size=(side, side), mode="nearest").flatten(2).transpose(1, 2)
        )
        parts.append(((1 - here) * each.float()).square().mean())
    return torch.stack(parts).mean()


class Receler(DiffusionObjective):
    """Reliable concept erasing with lightweight erasers: mean ||eps_a(x_t, c + adv) - (eps_0(x_t, 0) - eta
    [eps_0(x_t, c) - eps_0(x_t, 0)])||^2 + w outside(a).

    a are adapters behind each cross-attention of the scope; no weight of the model moves. adv are embeddings
    appended to the encoded prompt, which in each step an adversary optimises anew so that eps_a(x_t, c + adv)
    comes back to eps_0(x_t, c). outside(a) is what the adapters add where the concept's tokens are not looked
    for: it reads the very pass of the erasing loss, and so is one role with it. Paper: Huang et al., ECCV
    2024, arXiv 2311.17717. Assumed, where the summary at hand is silent: embeddings are appended to what the
    text encoder puts out, start as a Gaussian of its standard deviation and decay apart from their gradient
    (AdamW: as an L2 term, 0.1 would outweigh it); trajectories are the original network's; maps are a mean
    over layers.
    """

    name: ClassVar[str] = "receler"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "attached"
    trains: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Huang et al., Receler: Reliable Concept Erasing of Text-to-Image Diffusion Models via Lightweight "
        "Erasers, ECCV 2024 (2311.17717)"
    )

    class Options(StrictModel):
        """Receler's options; the defaults are the released ones."""

        rank: int = Field(default=128, ge=1, description="width of an adapter's middle")
        eta: float = Field(default=1.0, ge=0, description="how far to go against the concept's direction")
        prompts: PromptSource = Field(default="name", description="the bare name, or the bank's prompts")
        trajectory_steps: int = Field(default=50, ge=1, description="sampling steps of a whole trajectory")
        guidance: float = Field(default=3.0, ge=0, description="guidance of the trajectory")
        adversary_steps: int = Field(default=50, ge=0, description="the adversary's updates in each step")
        adversary_tokens: int = Field(default=16, ge=1, description="embeddings it appends to the prompt")
        adversary_learning_rate: float = Field(default=0.1, gt=0)
        adversary_weight_decay: float = Field(default=0.1, ge=0)
        localisation: float = Field(
            default=0.1, ge=0, description="weight of what is added outside the concept"
        )
        threshold: float = Field(
            default=0.1, ge=0, le=1, description="of the attention map, over which the concept is"
        )
        map_side: int = Field(default=16, ge=1, description="side that attention maps are brought to")

    options: Options

    def attachment(self, model: DiffusionBackend, data: DiffusionData, scope: list[str]) -> RecelerAdapters:
        """Untrained adapters behind the cross-attention layers whose keys or values lie in the scope."""
        names = [name for name in model.text_facing() if name in set(scope)]
        if not names:
            raise UserError(
                "method 'receler' puts adapters behind cross-attention, and the scope holds none of its keys "
                "and values; use scope xattn-kv"
            )
        self._layers: dict[str, Any] = dict(attention_layers(model, names))
        self.adapters = RecelerAdapters.untrained(
            {name: int(layer.to_out[0].out_features) for name, layer in self._layers.items()},
            rank=self.options.rank,
            seed=data.seed,
            device=model.device,
        )
        self._report: dict[str, Tensor] = {}
        return self.adapters

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """Each item is met on a trajectory of its own."""
        return StepCost(trajectory=options.trajectory_steps)

    def roles(self, step: int) -> dict[str, Role]:
        """Forget alone."""
        return {"forget": Role("forget")}

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """x_t from a stopped trajectory of the original network, what it says there, where it looks for the
        concept, and what the adversary starts from.
        """
        options = self.options
        pairs = batch_pairs(self.request, self.data, options.prompts, step, rng, batch)
        prompts = [pair.target for pair in pairs]
        stop = int(torch.randint(options.trajectory_steps, (1,), generator=rng))
        text = self.model.encode_text(prompts)
        noisy, t = self.model.trajectory(
            text, stop, steps=options.trajectory_steps, guidance=options.guidance, generator=rng
        )
        with watching(self._layers) as seen:
            concept = self.model.predict(noisy, t, text)
        empty = self.model.predict(noisy, t, self.model.unconditional(batch))
        places = token_positions(self.model, prompts, [self.data.words(pair.concept) for pair in pairs])
        start = torch.randn(batch, options.adversary_tokens, text.hidden.shape[-1], generator=rng)
        return Draw(
            noisy=noisy,
            t=t,
            text=text,
            concept=concept,
            goal=esd_target(empty, concept, empty, options.eta),
            inside=region(token_map(seen, places, options.map_side), options.threshold),
            adversary=start.to(text.hidden) * text.hidden.std(),
        )

    def before(self, step: int, draw: Draw) -> None:
        """The adversary's turn: embeddings that bring the concept's own prediction back, the adapters at
        work.
        """
        if not self.options.adversary_steps:
            draw["adversary"] = draw["adversary"][:, :0]
            return
        said = nn.Parameter(draw["adversary"].float())
        optimizer = torch.optim.AdamW(
            [said],
            lr=self.options.adversary_learning_rate,
            weight_decay=self.options.adversary_weight_decay,
        )
        for _ in range(self.options.adversary_steps):
            with self.adapters.active(self.model):
                prediction = self.model.predict(draw["noisy"], draw["t"], appended(draw["text"], said))
            gap = F.mse_loss(prediction.float(), draw["concept"].float())
            (said.grad,) = torch.autograd.grad(gap, [said])
            optimizer.step()
        draw["adversary"] = said.detach()
        draw.cache["restored"] = gap.detach()

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The erasing loss under attack, and the weighted square of what is added outside the concept."""
        added: list[Tensor] = []
        text = appended(draw["text"], draw["adversary"])
        with self.adapters.active(self.model, seen=added):
            prediction = self.model.predict(draw["noisy"], draw["t"], text)
        erasing = F.mse_loss(prediction.float(), draw["goal"].float())
        beside = outside(added, draw["inside"])
        self._report = {"erasing": erasing.detach(), "outside": beside.detach(), **draw.cache}
        return erasing + self.options.localisation * beside

    def report(self) -> dict[str, float]:
        """The two parts of the last loss, and how near the adversary came ("restored", a mean square)."""
        return {name: float(value) for name, value in self._report.items()}


def appended(text: TextEmbedding, rows: Tensor) -> TextEmbedding:
    """The encoded prompts with further rows (B, k, d) behind their own; cross-attention reads any number."""
    return replace(text, hidden=torch.cat([text.hidden, rows.to(text.hidden)], dim=1))
