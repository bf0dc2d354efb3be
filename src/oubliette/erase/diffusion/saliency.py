"""Which elements of the weights a concept's pictures depend on: SalUn's mask, and a random one beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from oubliette.backends.base import TEXT_ENCODER, draws
from oubliette.backends.text import TextEmbedding
from oubliette.core.errors import UserError
from oubliette.core.progress import progress
from oubliette.train.gradients import step_rng
from oubliette.train.smoothing.base import Passes
from oubliette.train.trainable import these_alone

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData

__all__ = ["RandomElements", "Saliency", "greatest"]

_INFINITY = 0x7F800000  # the bits of +inf in fp32: those of finite numbers from 0 on are less, in their order


class Saliency:
    """The `share` of elements with the greatest |sum of gradients| of the guided denoising loss.

    The loss is mean ||target - ((1 + guidance) eps(x_t, c) - guidance eps(x_t, empty))||^2 on noised pictures
    of the concept, at the weights as they stand; that the paper takes its negative changes no magnitude.
    `guidance` is the released code's 7.5, which Stable Diffusion's own scale calls 8.5. One threshold for all
    tensors of the scope together, `int(share * elements)` elements exactly, ties in the tensors' order. Every
    picture once, `batch` at a time, or as many `batches` as are given. Paper: Fan et al. (SalUn), ICLR 2024,
    arXiv 2310.12508. UserError for an option out of range.
    """

    def __init__(
        self, share: float = 0.5, batches: int | None = None, batch: int = 8, guidance: float = 7.5
    ) -> None:
        _check_share("saliency", share)
        for name, value, least in (("batches", batches, 1), ("batch", batch, 1), ("guidance", guidance, 0)):
            if value is not None and value < least:
                raise UserError(f"element mask 'saliency': {name} must be at least {least}, found {value}")
        self.share, self.batches, self.batch, self.guidance = share, batches, batch, guidance

    def passes(self, pictures: int) -> Passes:
        """What it makes of so many pictures: each with its prompt and with none, forward and backward."""
        count = pictures if self.batches is None else min(pictures, self.batches * self.batch)
        return Passes(2 * count, 2 * count)

    def masks(
        self, model: DiffusionBackend, data: DiffusionData, named: Mapping[str, nn.Parameter], seed: int
    ) -> dict[str, Tensor]:
        """True for the elements that may move, a boolean tensor of each named parameter's shape.

        Beside one gradient it holds their sum in fp32. UserError for a model that draws no pictures, where a
        gradient is not finite, and where the loss reaches no tensor.
        """
        if not draws(model):
            raise UserError(
                f"element mask 'saliency' is of pictures, and {model.source} is a {model.kind} model; "
                "leave scope.elements out, or take 'random'"
            )
        return greatest(self.sums(model, data, named, seed), self.share, "saliency")

    def sums(
        self, model: DiffusionBackend, data: DiffusionData, named: Mapping[str, nn.Parameter], seed: int
    ) -> dict[str, Tensor]:
        """The gradient summed over pictures, by name, in fp32."""
        latents, prompts = data.target_latents(), [item.target for item in data.items]
        found = {name: torch.zeros_like(each, dtype=torch.float32) for name, each in named.items()}
        text_too = not set(named).isdisjoint(model.groups().get(TEXT_ENCODER, []))
        starts = range(0, len(prompts), self.batch)[: self.batches]
        reached, held = False, list(named.values())
        with (
            progress("weighing elements", len(starts), "batches", enabled=data.show_progress) as tick,
            these_alone(held, held),
        ):
            for number, first in enumerate(starts):
                part = slice(first, first + self.batch)
                loss = self._loss(
                    model, latents[part], prompts[part], step_rng(seed, number, "saliency"), text_too
                )
                if not loss.requires_grad:
                    break
                gradients = torch.autograd.grad(loss, held, allow_unused=True)
                for total, gradient in zip(found.values(), gradients, strict=True):
                    if gradient is not None:
                        reached = True
                        total += gradient
                tick(number + 1, "")
        if not reached:
            raise UserError("element mask 'saliency': the pictures depend on no tensor of the scope")
        return found

    def _loss(
        self,
        model: DiffusionBackend,
        clean: Tensor,
        prompts: list[str],
        rng: torch.Generator,
        text_too: bool,
    ) -> Tensor:
        """The guided denoising loss of each picture, summed, so that every picture counts alike."""
        t = torch.randint(model.train_timesteps, (len(clean),), generator=rng).to(model.device)
        noise = torch.randn(clean.shape, generator=rng).to(model.device)
        clean = clean.to(model.device)
        noisy = model.add_noise(clean, noise, t).to(model.dtype)
        text = model.encode_text(prompts, grad=text_too)
        # The empty prompt's encoding is taken as given even where the text encoder is in scope.
        both = TextEmbedding.join([model.unconditional(len(clean)), text])
        blank, full = model.predict(torch.cat([noisy] * 2), torch.cat([t] * 2), both).float().chunk(2)
        guided = (1 + self.guidance) * full - self.guidance * blank
        target = model.target_of(clean, noise, t).float()
        return (guided - target).square().flatten(1).mean(dim=1).sum()


class RandomElements:
    """A `share` of the elements at random: what a chosen mask is to be compared with.

    `int(share * elements)` of all the scope's tensors together, from the seed alone. UserError for a share
    out of range.
    """

    def __init__(self, share: float = 0.5) -> None:
        _check_share("random", share)
        self.share = share

    def passes(self, pictures: int) -> Passes:
        """None."""
        return Passes()

    def masks(
        self, model: Backend, data: Any, named: Mapping[str, nn.Parameter], seed: int
    ) -> dict[str, Tensor]:
        """True for the elements that may move, a boolean tensor of each named parameter's shape."""
        rng = step_rng(seed, 0, "random elements")
        scores = {name: torch.rand(each.shape, generator=rng).to(each.device) for name, each in named.items()}
        return greatest(scores, self.share, "random")


@torch.no_grad()
def greatest(scores: Mapping[str, Tensor], share: float, what: str) -> dict[str, Tensor]:
    """Masks of the int(share * n) elements of greatest magnitude among all n fp32 scores, ties in order.

    The threshold is found by halving the range of fp32's bits, which are in the order of their numbers: 31
    counts and no copy of the scores, which are left as their magnitudes. UserError where the count is 0, or a
    score is not finite.
    """
    count = int(share * sum(score.numel() for score in scores.values()))
    if count == 0:
        raise UserError(f"element mask '{what}': a share of {share:g} is less than one element; give more")
    bits = [score.abs_().contiguous().view(torch.int32) for score in scores.values()]
    if _number(each >= _INFINITY for each in bits):
        raise UserError(f"element mask '{what}': a gradient is not finite; try the model in float32")
    low, high = 0, _INFINITY  # at least `count` elements are >= low, and fewer than that >= high
    while high - low > 1:
        middle = (low + high) // 2
        if _number(each >= middle for each in bits) >= count:
            low = middle
        else:
            high = middle
    left = count - _number(each > low for each in bits)
    masks = {}
    for (name, score), each in zip(scores.items(), bits, strict=True):
        mask = each > low
        ties = (each == low).flatten().nonzero().flatten()[:left]
        mask.view(-1)[ties] = True
        left -= len(ties)
        masks[name] = mask.view(score.shape)
    return masks


def _number(masks: Iterator[Tensor]) -> int:
    """How many elements are True in all of them."""
    return int(torch.stack([mask.sum() for mask in masks]).sum())


def _check_share(what: str, share: float) -> None:
    if not 0 < share <= 1:
        raise UserError(f"element mask '{what}': share must lie above 0 and at most at 1, found {share:g}")
