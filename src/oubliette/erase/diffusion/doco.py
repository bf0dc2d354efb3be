"""DoCo: concept domain correction, a discriminator between the anchor's and the target's domain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.erase.diffusion.common import NoiseOptions, PairObjective
from oubliette.erase.diffusion.discriminator import Norm, build
from oubliette.train.config import Beta
from oubliette.train.cost import StepCost
from oubliette.train.optimizer import load_optimizer_state, optimizer_state
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData
    from oubliette.erase.request import ErasureRequest
    from oubliette.train.weights import Weights

_NETWORK, _OPTIMIZER = "discriminator.", "discriminator_optimizer."


def as_anchor(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the anchor's label 0, mean over items and patches."""
    return F.softplus(logits).mean()


def as_target(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the target's label 1, mean over items and patches."""
    return F.softplus(-logits).mean()


class DoCo(PairObjective):
    """Domain Correction: the target prompts' predicted clean latents are to look anchor-like to a
    discriminator, one for each concept.

    Forget: BCE(D(xh_target), anchor). Helper: BCE(D(sg xh_target), target) + BCE(D(xh_anchor), anchor), with
    its own Adam; alone during the warm-up. Prior: denoising of anchor pictures, a retain role of which the
    surgery makes the concept-preserving gradient. xh is the clean latent predicted at (x_t, t); xh_anchor
    comes from the original network at the same x_t, t and noise. Paper: Wu et al., AAAI 2025, arXiv
    2405.15304; the released code's two departures are options: `leak` here, and surgery doco_ref. The paper
    erases one concept: of several, each is told from its own anchor, since a discriminator of them all could
    tell a concept by another's anchor.
    """

    name: ClassVar[str] = "doco"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    budget: ClassVar[tuple[str, ...]] = (*PairObjective.budget, "method.warm_up")
    paper: ClassVar[str] = (
        "Wu et al., Unlearning Concepts in Diffusion Model via Concept Domain Correction "
        "and Concept Preserving Gradient, AAAI 2025 (2405.15304)"
    )

    class Options(NoiseOptions):
        """DoCo's options; the defaults are the published ones, with GroupNorm and without the leak."""

        warm_up: int = Field(default=1000, ge=0, description="steps in which the discriminator trains alone")
        discriminator_learning_rate: float = Field(default=1e-4, gt=0)
        discriminator_betas: tuple[Beta, Beta] = (0.5, 0.999)
        norm: Norm = Field(default="group", description="the discriminator's normalisation; released: batch")
        width: int = Field(default=64, ge=1, description="channels of the discriminator's first layer")
        depth: int = Field(default=0, ge=0, description="further 3x3 layers before the logits")
        leak: bool = Field(
            default=False, description="let the erasing loss leak into the discriminator, as released"
        )
        rescale: bool = Field(
            default=False, description="show xh times its signal level, so that no t dominates"
        )

    options: Options
    discriminators: nn.ModuleList
    optimizer: torch.optim.Adam

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Build the discriminators for the model's latents, from `seed` alone, and their optimiser."""
        super().setup(model, data, weights, seed)
        channels, *sides = model.latent_shape
        self.discriminators = nn.ModuleList(
            build(
                channels,
                min(sides),
                norm=self.options.norm,
                width=self.options.width,
                depth=self.options.depth,
                seed=seed + index,
                device=model.device,
            )
            for index in range(len(self.request.concepts))
        )
        self.optimizer = torch.optim.Adam(
            self.discriminators.parameters(),
            lr=self.options.discriminator_learning_rate,
            betas=self.options.discriminator_betas,
        )
        self._logits: tuple[Tensor, Tensor] | None = None

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """The discriminator trains alone while it warms up."""
        return replace(super().step_cost(options), warm_up=options.warm_up)

    def roles(self, step: int) -> dict[str, Role]:
        """The discriminator alone in the first `warm_up` steps, then forget, prior and discriminator."""
        helper = Role("helper", parameters=tuple(self.discriminators.parameters()), optimizer=self.optimizer)
        if step < self.options.warm_up:
            return {"discriminator": helper}
        return {"forget": Role("forget"), **self.prior_role(), "discriminator": helper}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Noised anchor pictures, a prior batch, and the anchor domain's clean latents as the original
        predicts them.
        """
        draw = self.draw_pairs(step, rng, batch)
        draw["anchor_clean"] = self.clean(self.teacher(draw["noisy"], draw["t"], draw["anchor"]), draw)
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The erasing loss ("forget"), the denoising loss ("prior") or the discriminator's own."""
        if role == "prior":
            return self.prior_loss(draw)
        if role == "discriminator":
            return self._discriminator_loss(draw)
        target = self.clean(self.student(draw["noisy"], draw["t"], draw["target"]), draw)
        # The first evaluation is at the weights as they stand; a smoother makes later ones elsewhere.
        draw.cache.setdefault("target_clean", target.detach())
        draw.cache["erased"] = True
        return as_anchor(self.judge(target, draw))

    def clean(self, prediction: Tensor, draw: Draw) -> Tensor:
        """The predicted clean latents in fp32, what the discriminator sees; with `rescale` times the signal
        level.

        An error of the noise prediction grows by sqrt((1 - ab_t) / ab_t) on its way to xh (14.6 times at the
        last step of Stable Diffusion's schedule); times sqrt(ab_t) it grows nowhere.
        """
        noisy = draw["noisy"].float()
        clean = self.model.clean_of(prediction.float(), noisy, draw["t"])
        if self.options.rescale:
            clean = clean * self.model.add_noise(torch.ones_like(noisy), torch.zeros_like(noisy), draw["t"])
        return clean

    def judge(self, clean: Tensor, draw: Draw) -> Tensor:
        """The logits (B, 1, h, w) of each row by its own concept's discriminator, concept after concept; in
        fp32 even where the denoiser runs in a lower precision.
        """
        concepts = torch.tensor(draw["concepts"], device=clean.device)
        with torch.autocast(clean.device.type, enabled=False):
            return torch.cat(
                [self.discriminators[c](clean[concepts == c]) for c in concepts.unique().tolist()]
            )

    def state(self) -> dict[str, Tensor]:
        """The discriminators' tensors and their optimiser's."""
        own = {_NETWORK + name: tensor for name, tensor in self.discriminators.state_dict().items()}
        return {**own, **optimizer_state(self.optimizer, _OPTIMIZER)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave; raises RuntimeError where it is of another discriminator."""
        own = {
            name.removeprefix(_NETWORK): tensor for name, tensor in state.items() if name.startswith(_NETWORK)
        }
        self.discriminators.load_state_dict(own)
        load_optimizer_state(self.optimizer, state, _OPTIMIZER)

    def report(self) -> dict[str, float]:
        """The discriminators' accuracy on both sides in the last step, over patches: 0.5 is blind, 1.0
        saturated.
        """
        if self._logits is None:
            return {}
        target, anchor = self._logits
        return {
            "accuracy_target": float((target > 0).float().mean()),
            "accuracy_anchor": float((anchor < 0).float().mean()),
        }

    def _discriminator_loss(self, draw: Draw) -> Tensor:
        if "target_clean" not in draw.cache:
            with torch.no_grad():
                draw.cache["target_clean"] = self.clean(
                    self.student(draw["noisy"], draw["t"], draw["target"]), draw
                )
        # Two passes, so that batch statistics, where they are used, are those of one domain at a time.
        target, anchor = (
            self.judge(draw.cache["target_clean"], draw),
            self.judge(draw["anchor_clean"], draw),
        )
        self._logits = (target.detach(), anchor.detach())
        loss = as_target(target) + as_anchor(anchor)
        if self.options.leak and draw.cache.get("erased"):
            # The released code does not clear what the erasing loss left in the discriminator's gradients.
            loss = loss + as_anchor(target)
        return loss
