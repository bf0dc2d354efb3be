"""Control rows: models whose figures are known beforehand, so that a broken metric shows itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import Concept
from oubliette.data.words import pattern
from oubliette.eval.rows import BASE, control_name
from oubliette.eval.sampler import CachedSampler
from oubliette.world.world import world_of

#: NONE is the base itself: nothing was erased from it.
NONE, GOLD, RANDOM, FILTER = BASE, "gold", "random weights", "prompt filter"
CONTROLS = (NONE, GOLD, RANDOM, FILTER)


@contextmanager
def open_control(
    spec: str | tuple[str, Any],
    base: CachedSampler,
    concepts: Sequence[Concept],
    words: Iterable[str],
    *,
    seed: int = 0,
) -> Iterator[CachedSampler]:
    """A control as a painter: `gold[=MODEL]`, `random weights`, `prompt filter`, `base`, or (name, model).

    `base` is the painter of the base, which "base" is; `words` are what the prompt filter drops. Random
    weights are the base's own denoiser with the entries of every tensor shuffled, put back bit for bit when
    the block ends. Raises UserError for an unknown control or where no gold model is known.
    """
    if not isinstance(spec, str):
        yield base.like(spec[0], spec[1])
        return
    name, _, argument = spec.partition("=")
    name = control_name(name)
    check_control(name)
    if name == GOLD:
        yield base.like(GOLD, _open_gold(argument, base.model, concepts))
    elif name == FILTER:
        drop = prompt_filter(words)
        yield base.like(FILTER, base.model, rewrite=drop, fingerprint=base.fingerprint)
    elif name == RANDOM:
        with shuffled(base.model, seed):
            yield base.like(RANDOM, base.model, fingerprint=f"{base.fingerprint}+shuffled-{seed}")
    else:
        yield base


def check_control(name: str) -> None:
    """UserError unless there is a control of this name (what follows "=" aside)."""
    if control_name(name.partition("=")[0]) not in CONTROLS:
        raise UserError(f"no control is called '{name}'; {suggest(name, CONTROLS)}")


def prompt_filter(words: Iterable[str]) -> Callable[[str], str]:
    """A function that drops the words from a prompt, whatever their case, and tidies what is left."""
    named = pattern(words)

    def drop(prompt: str) -> str:
        left = re.sub(r"\s+", " ", named.sub("", prompt))
        return re.sub(r" ([,.;:])", r"\1", left).strip(" ,;:")

    return drop


class _Filtered:
    """A model whose prompts go through a filter on their way in; everything else is the model's own."""

    def __init__(self, model: Any, drop: Callable[[str], str]) -> None:
        self._model, self._drop = model, drop
        self.source = FILTER

    def fingerprint(self) -> str:
        """The model's, and that there is a filter."""
        return f"{self._model.fingerprint()}+filter"

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> Any:
        """What the model draws for what the filter leaves."""
        return self._model.draw([self._drop(prompt) for prompt in prompts], seeds, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def filtered(model: Any, words: Iterable[str]) -> Any:
    """`model` behind a prompt filter: a veil, and a thin one. Training it trains the model itself."""
    return _Filtered(model, prompt_filter(words))


@contextmanager
def shuffled(model: Any, seed: int) -> Iterator[None]:
    """Shuffle the entries of each of the denoiser's tensors (of all, where a model has no denoiser) in place,
    and restore every bit at the end.

    Keeps each tensor's mean and spread, so activations stay finite in any architecture, and nothing that was
    learned.
    """
    from oubliette.backends.base import DENOISER

    tensors = model.tensors()
    names = model.groups().get(DENOISER, list(tensors))
    originals = {name: tensors[name].detach().to("cpu", copy=True) for name in names}
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for name in names:
                flat = originals[name].reshape(-1)
                order = torch.randperm(flat.numel(), generator=generator)
                tensors[name].copy_(flat[order].reshape(originals[name].shape))
        yield
    finally:
        with torch.no_grad():
            for name in names:
                tensors[name].copy_(originals[name])


def gold_opened(spec: str | tuple[str, Any], base: Any, concepts: Sequence[Concept]) -> str | tuple[str, Any]:
    """A control, with the gold model opened where it is one: one that cannot be opened is refused before the
    work. UserError as from `open_control`.
    """
    name, _, argument = spec.partition("=") if isinstance(spec, str) else ("", "", "")
    return (GOLD, _open_gold(argument, base, concepts)) if name == GOLD else spec


def _open_gold(argument: str, base: Any, concepts: Sequence[Concept]) -> Any:
    from oubliette.backends import open_model

    if argument:
        return open_model(argument, device=base.device)
    world = world_of(base)
    if world.gold is None:
        raise UserError("control gold: no gold model is known for this base; give one as gold=MODEL")
    other = [c.name for c in concepts if not world.is_unseen(c.kind, c.name)]
    if other and not world.unseen:
        raise UserError(
            f"control gold: what {world.gold} was trained without cannot be told from the name "
            f"{', '.join(other)}; where it is these rows, say so: gold={world.gold}"
        )
    if other:
        names = ", ".join(name for _, name in sorted((kind, name) for name, _, kind in world.unseen))
        raise UserError(
            f"control gold: {world.gold} was trained without {names} only, not without {', '.join(other)}"
        )
    return open_model(world.gold, device=base.device)
