"""STEREO's first stage: erase, learn a word that brings the concept back, erase that too, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.text import TextEmbedding
from oubliette.core.progress import progress
from oubliette.erase.diffusion.common import DiffusionObjective
from oubliette.erase.diffusion.esd import esd_target
from oubliette.erase.diffusion.turns import batch_pairs
from oubliette.erase.request import PromptPair
from oubliette.train.config import TrainConfig
from oubliette.train.gradients import step_rng
from oubliette.train.loop import Loop
from oubliette.train.objective import BaseObjective
from oubliette.train.processes import Processes
from oubliette.train.roles import Draw, Role
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.diffusion.stereo import Stereo
    from oubliette.erase.prepare import DiffusionData

__all__ = ["Away", "Inversion", "Term", "encoded", "search", "terms_in_turn"]


@dataclass(frozen=True)
class Term:
    """One thing that says a concept: its pair's target prompt, or a learned word (k, d) that stands alone."""

    pair: PromptPair
    word: Tensor | None = None


def encoded(model: DiffusionBackend, terms: Sequence[Term], *, grad: bool = False) -> TextEmbedding:
    """The terms' embeddings in their order, by the text encoder as it is, with its graph if `grad`."""
    with torch.set_grad_enabled(grad):
        said = [index for index, term in enumerate(terms) if term.word is None]
        learned = [(index, term.word) for index, term in enumerate(terms) if term.word is not None]
        parts = []
        if said:
            parts.append(model.encode_text([terms[index].pair.target for index in said], grad=grad))
        if learned:
            words = torch.stack([word for _, word in learned])
            parts.append(model.encode_embeddings(words, [""] * len(words)))
        order = torch.tensor([*said, *(index for index, _ in learned)])
        return TextEmbedding.join(parts).index(order.argsort())


def terms_in_turn(pairs: Sequence[PromptPair], words: Tensor, first: int, names: Sequence[str]) -> list[Term]:
    """A batch's terms: each pair's own prompt, or in its place one of its concept's words (concepts, found,
    k, d), all in turn. `first` is the batch's number of the first slot, `names` the concepts' anchors.
    """
    terms = []
    for slot, pair in enumerate(pairs, start=first):
        turn = slot // len(names) % (1 + words.shape[1])
        anchored = PromptPair(pair.target, names[pair.concept], pair.concept)
        terms.append(Term(anchored, words[pair.concept, turn - 1]) if turn else Term(pair))
    return terms


class Away(DiffusionObjective):
    """ESD on the concepts' prompts and on all words found so far, in turn: what a word is then sought
    against.
    """

    words: Tensor
    """Words found so far, (concepts, found, k, d): the search puts more in."""

    def roles(self, step: int) -> dict[str, Role]:
        """Forget alone."""
        return {"forget": Role("forget")}

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """x_t from a stopped trajectory of the original network and ESD's target there, with eta 1."""
        options = self.options
        pairs = batch_pairs(self.request, self.data, options.prompts, step, rng, batch)
        anchors = [concept.anchor for concept in self.request.concepts]
        terms = terms_in_turn(pairs, self.words, step * batch, anchors)
        stop = int(torch.randint(options.trajectory_steps, (1,), generator=rng))
        with self.weights.originals():
            text = encoded(self.model, terms)
            noisy, t = self.model.trajectory(
                text,
                stop,
                steps=options.trajectory_steps,
                guidance=options.trajectory_guidance,
                generator=rng,
            )
            both = TextEmbedding.join([text, self.model.unconditional(batch)])
            concept, empty = self.model.predict(torch.cat([noisy] * 2), torch.cat([t] * 2), both).chunk(2)
        return Draw(noisy=noisy, t=t, terms=terms, goal=esd_target(empty, concept, empty, 1.0))

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The squared distance to the target."""
        text = encoded(self.model, draw["terms"], grad=self._text_trained and torch.is_grad_enabled())
        prediction = self.model.predict(draw["noisy"], draw["t"], text)
        return F.mse_loss(prediction.float(), draw["goal"].float())


class Inversion(BaseObjective):
    """Textual inversion: one word (k, d) learns to stand for pictures of a concept, the model as it is.

    The ordinary denoising loss, mean ||eps(x_t, word) - target||^2 (Gal et al. 2022, 2208.01618).
    """

    def __init__(self, word: nn.Parameter, clean: Tensor) -> None:
        self.word, self._clean = word, clean

    def setup(self, model: Any, data: Any, weights: Weights, seed: int) -> None:
        """Take hold of the model."""
        self._model: DiffusionBackend = model

    def roles(self, step: int) -> dict[str, Role]:
        """One role, which moves the word."""
        return {"invert": Role("forget")}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Noised pictures of the concept, their timesteps, and what the network should put out."""
        model = self._model
        chosen = torch.randint(len(self._clean), (batch,), generator=rng)
        t = torch.randint(model.train_timesteps, (batch,), generator=rng).to(model.device)
        noise = torch.randn(batch, *self._clean.shape[1:], generator=rng).to(model.device)
        clean = self._clean[chosen].to(model.device)
        noisy = model.add_noise(clean, noise, t).to(model.dtype)
        return Draw(noisy=noisy, t=t, target=model.target_of(clean, noise, t))

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The denoising loss with the word alone as the prompt."""
        count = len(draw["noisy"])
        text = self._model.encode_embeddings(self.word.expand(count, -1, -1), [""] * count)
        prediction = self._model.predict(draw["noisy"], draw["t"], text)
        return F.mse_loss(prediction.float(), draw["target"].float())


def search(method: Stereo, batch: int) -> Tensor:
    """The words (concepts, rounds, k, d) in fp32 that brought the concepts back, one a round and concept.

    The erasing goes on from round to round, in memory of its own: the trained tensors hold the originals when
    it begins, and have their bits back after it. A concept's word starts as the mean of its name's tokens.
    """
    model, data, weights, options = method.model, method.data, method.weights, method.options
    erased: Any = Away(options, method.request)
    start = [_mean_token(model, concept.name) for concept in method.request.concepts]
    erased.words = torch.empty(len(start), 0, options.words, start[0].shape[-1], device=model.device)
    each = options.erase_steps + len(start) * options.inversion_steps
    show = data.show_progress and Processes(model.device).is_main
    with (
        weights.scratch(),
        progress("searching for words", options.rounds * each, enabled=show) as tick,
    ):
        pictures = _pictures(data)
        away = Loop(
            model,
            erased,
            data,
            weights,
            _config(options, batch, options.erase_learning_rate),
            seed=_seed(method.seed, 0, "erase"),
            show_progress=False,
        )
        done = 0

        def advance(loop: Loop, steps: int, what: str) -> None:
            nonlocal done
            for _ in range(steps):
                (loss,) = loop.advance(1).values()
                done += 1
                tick(done, f"{what} {loss:.4g}")

        for number in range(options.rounds):
            advance(away, options.erase_steps, "erase")
            found = []
            for index, token in enumerate(start):
                word = nn.Parameter(token.expand(options.words, -1).clone())
                loop = Loop(
                    model,
                    Inversion(word, pictures[index]),
                    data,
                    Weights({"word": word}),
                    _config(options, batch, options.inversion_learning_rate),
                    seed=_seed(method.seed, number, f"invert {index}"),
                    show_progress=False,
                )
                advance(loop, options.inversion_steps, "invert")
                found.append(word.detach())
            erased.words = torch.cat([erased.words, torch.stack(found).unsqueeze(1)], dim=1)
    return erased.words


def _config(options: Stereo.Options, batch: int, learning_rate: float) -> TrainConfig:
    return TrainConfig(
        batch=batch,
        accumulation=options.accumulation,
        learning_rate=learning_rate,
        optimizer="adam",
        weight_decay=0.0,
    )


def _pictures(data: DiffusionData) -> list[Tensor]:
    """Latents of pictures of each concept, as the original model draws them."""
    latents = data.target_latents()
    return [
        latents[[at for at, item in enumerate(data.items) if item.concept == index]]
        for index in range(len(data.request.concepts))
    ]


def _mean_token(model: DiffusionBackend, name: str) -> Tensor:
    """The mean input embedding (1, d) of a name's tokens, in fp32."""
    ids = model.tokenizers[0](name, add_special_tokens=False).input_ids
    return model.token_embeddings(torch.tensor([ids])).float().mean(dim=1)


def _seed(seed: int, number: int, part: str) -> int:
    return int(torch.randint(2**31, (1,), generator=step_rng(seed, number, f"stereo {part}")))
