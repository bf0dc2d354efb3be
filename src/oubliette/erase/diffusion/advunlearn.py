"""AdvUnlearn: ESD on the text encoder, against prompts with a prefix that an adversary finds in each step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.erase.diffusion.esd import ESD
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData
    from oubliette.erase.request import ErasureRequest
    from oubliette.train.weights import Weights


class AdvUnlearn(ESD):
    """ESD's loss on eps_th(x_t, prefix + c), the prefix found by an attack, and a loss on retain prompts.

    The latter is keep * mean ||eps_th(x_t, r) - eps_0(x_t, r)||^2. The attack: k input embeddings before the
    prompt, begun at random tokens, are moved to minimise mean ||eps_th(x_t, prefix + c) - eps_0(x_t, c)||^2
    at the weights as they stand; each of a step's prompts has a prefix of its own. The first `attack_after`
    steps are ESD's. Trajectories are the original model's; where the text encoder alone is trained, as
    published, the released code's are the same. Paper: Zhang et al., NeurIPS 2024, arXiv 2405.15234.
    """

    name: ClassVar[str] = "advunlearn"
    budget: ClassVar[tuple[str, ...]] = (*ESD.budget, "method.attack_after")
    paper: ClassVar[str] = (
        "Zhang et al., Defensive Unlearning with Adversarial Training for Robust Concept Erasure in "
        "Diffusion Models, NeurIPS 2024 (2405.15234)"
    )

    class Options(ESD.Options):
        """AdvUnlearn's options; the defaults are the released recipe's."""

        tokens: int = Field(default=1, ge=1, description="k, embeddings before the prompt")
        attack: Literal["adam", "sign"] = Field(
            default="adam", description="Adam's updates, or steps along the gradient's sign"
        )
        attack_steps: int = Field(default=30, ge=0, description="updates of the prefix; 0 is no attack")
        attack_learning_rate: float = Field(default=1e-3, gt=0)
        attack_after: int = Field(default=200, ge=0, description="steps before the first attack")
        fresh: bool = Field(
            default=True, description="a new x_t for each update of the prefix; else the step's own"
        )
        keep: float = Field(default=0.3, ge=0, description="weight of the loss on retain prompts")
        kept_per_prompt: int = Field(
            default=5, ge=0, description="retain prompts beside each of a step's prompts; 0 is none"
        )

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """ESD's, and the attack's passes and those of the retain prompts for each of a step's prompts.

        Trajectories that stop half-way on average, two forwards a step, then the predictions made there.
        """
        met = options.trajectory_steps + 2
        attack = options.attack_steps + (max(options.attack_steps - 1, 0) * met if options.fresh else 0)
        kept = options.kept_per_prompt
        return replace(
            super().step_cost(options),
            forwards=attack + kept * met,
            backwards=options.attack_steps + kept,
        )

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Know the tokens that a prefix begins at.

        UserError where it does not fit, or the text encoders number tokens differently.
        """
        super().setup(model, data, weights, seed)
        tokenizer = model.tokenizers[0]
        special = set(tokenizer.all_special_ids)
        self._vocabulary = torch.tensor(sorted(set(tokenizer.get_vocab().values()) - special))
        if self.options.attack_steps:
            start = self._vocabulary[:1].expand(1, self.options.tokens)
            with torch.no_grad():
                model.encode_embeddings(model.token_embeddings(start), [""])
        self._kept = data.retain_prompts() if self.options.kept_per_prompt else ()
        self._attack: tuple[Tensor, Tensor] | None = None

    def roles(self, step: int) -> dict[str, Role]:
        """Forget, and the retain prompts as retain role if there are any."""
        kept = {"retain": Role("retain", weight=self.options.keep)} if self._kept else {}
        return {"forget": Role("forget"), **kept}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """ESD's draw, the attack's start and its randomness where there is one, and the retain batch."""
        draw = super().draw(step, rng, batch)
        if self._attacks(step):
            chosen = torch.randint(len(self._vocabulary), (batch, self.options.tokens), generator=rng)
            draw["tokens"] = self._vocabulary[chosen]
            draw["seed"] = int(torch.randint(2**62, (1,), generator=rng))
        if self._kept:
            draw["retain"] = self._retained(rng, batch * self.options.kept_per_prompt)
        return draw

    def before(self, step: int, draw: Draw) -> None:
        """The attack: "prefix" is what it finds, (B, k, d) in fp32 without a graph."""
        if self._attacks(step):
            draw["prefix"] = self.attacked(draw)

    def attacked(self, draw: Draw) -> Tensor:
        """A prefix (B, k, d) under which the prediction comes near the original's for the concept."""
        options = self.options
        prefix = self.model.token_embeddings(draw["tokens"]).float().requires_grad_()
        adam = torch.optim.Adam([prefix], lr=options.attack_learning_rate)
        rng = torch.Generator().manual_seed(draw["seed"])
        losses, point = [], draw
        for number in range(options.attack_steps):
            if options.fresh and number:
                point = self.met(draw["concepts"], rng)
            loss = self.attack_loss(prefix, point)
            (gradient,) = torch.autograd.grad(loss, prefix)
            losses.append(loss.detach())
            if options.attack == "adam":
                prefix.grad = gradient
                adam.step()
            else:
                with torch.no_grad():
                    prefix -= options.attack_learning_rate * gradient.sign()
        self._attack = losses[0] / len(prefix), losses[-1] / len(prefix)
        return prefix.detach()

    def attack_loss(self, prefix: Tensor, point: Draw) -> Tensor:
        """The sum over items of mean ||eps_th(x_t, prefix + c) - eps_0(x_t, c)||^2: none moves another's."""
        text = self.model.encode_embeddings(prefix, point["prompts"])
        prediction = self.model.predict(point["noisy"], point["t"], text)
        gap = (prediction.float() - point["concept"].float()).square().flatten(1)
        return gap.mean(dim=1).sum()

    def loss(self, role: str, draw: Draw) -> Tensor:
        """ESD's loss, with the prefix if there is one ("forget"), or the retain prompts' loss ("retain")."""
        if role == "retain":
            kept = draw["retain"]
            prediction = self.student(kept["noisy"], kept["t"], kept["prompts"])
            return F.mse_loss(prediction.float(), kept["goal"].float())
        if "prefix" not in draw:
            return super().loss(role, draw)
        text = self.model.encode_embeddings(draw["prefix"], draw["prompts"])
        prediction = self.model.predict(draw["noisy"], draw["t"], text)
        return F.mse_loss(prediction.float(), draw["goal"].float())

    def report(self) -> dict[str, float]:
        """The attack's loss, the mean over a step's prompts, at its first and its last update."""
        if self._attack is None:
            return {}
        first, last = self._attack
        return {"attack_first": float(first), "attack_last": float(last)}

    def _attacks(self, step: int) -> bool:
        return step >= self.options.attack_after and self.options.attack_steps > 0

    def _retained(self, rng: torch.Generator, count: int) -> dict[str, object]:
        chosen = torch.randint(len(self._kept), (count,), generator=rng).tolist()
        prompts = [self._kept[index] for index in chosen]
        stop = int(torch.randint(self.options.trajectory_steps, (1,), generator=rng))
        with torch.no_grad(), self.weights.originals():
            text = self.model.encode_text(prompts)
            noisy, t = self.model.trajectory(
                text,
                stop,
                steps=self.options.trajectory_steps,
                guidance=self.options.guidance,
                generator=rng,
            )
            goal = self.model.predict(noisy, t, text)
        return {"prompts": prompts, "noisy": noisy, "t": t, "goal": goal}
