"""LoRA (Hu et al. 2021): peft's adapters on named layers, merged to be looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from oubliette.backends.layers import adaptable
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.adapters import Adapters
from oubliette.train.freeze import apply_freeze
from oubliette.train.scope import linear, network, select, text_encoder
from oubliette.train.tuning.modes import Reword, Trained

if TYPE_CHECKING:
    from torch import nn

    from oubliette.backends.base import Backend
    from oubliette.train.tuning.budget import Budget

__all__ = ["Lora", "targets_of"]

#: The projections of an attention layer as diffusers, Llama and GPT-2 name them.
_ATTENTION = re.compile(
    r"\.(to_q|to_k|to_v|to_out\.0|add_[qkv]_proj|to_add_out|[qkvo]_proj|c_attn|attn\.c_proj)\.weight$"
)


class LoraOptions(StrictModel):
    """Where the adapters go; their rank and alpha are the budget's."""

    targets: str = Field(
        default="attention",
        description="attention (all of the network's), wide (its linear and convolution layers and the text "
        "encoder's), a scope's name, or re:PATTERN",
    )


class Lora:
    """Trains low-rank adapters; a layer whose weight is frozen gets none.

    A is N(0, 1/rank^2) and B zero (peft's "gaussian", diffusers' default); a layer's A depends on the seed
    and its name alone, so that a mask does not change the others'. Paper: Hu et al., LoRA, ICLR 2022
    (2106.09685).
    """

    name: ClassVar[str] = "lora"
    kind: ClassVar[Literal["relearn"]] = "relearn"
    about: ClassVar[str] = "trains low-rank adapters on chosen layers"
    paper: ClassVar[str] = "Hu et al., LoRA, ICLR 2022 (2106.09685)"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "gradients"})
    Options: ClassVar[type[LoraOptions]] = LoraOptions

    def __init__(self, options: LoraOptions) -> None:
        self.options = options

    def prompts(self) -> Reword | None:
        """Prompts stay as they are."""
        return None

    @contextmanager
    def open(self, model: Backend, budget: Budget, frozen: list[str] | None) -> Iterator[Trained]:
        """Inject adapters; on leaving they are taken out (merged first, if kept) and every bit returns."""
        named = apply_freeze(targets_of(model, self.options.targets), frozen, known=model.tensors())
        weights = Adapters(
            model, named, rank=budget.rank, alpha=budget.alpha, seed=budget.seed, stream=self.name
        )
        trained = Trained(weights)
        try:
            yield trained
        finally:
            weights.close(keep=trained.kept)


def targets_of(model: Backend, spec: str) -> dict[str, nn.Parameter]:
    """Weights of the layers that adapters go on, by name; UserError where there are none.

    Linear and convolution layers alone: of a scope's tensors, the others (norms, biases, embeddings) are left
    out.
    """
    tensors = model.tensors()
    if spec == "attention":
        chosen = {name for name in network(model) if _ATTENTION.search(name)}
    elif spec == "wide":
        chosen = {*network(model), *text_encoder(model)} - _heads(model)
    else:
        chosen = set(select(model, spec))
    layers = adaptable(model)
    found = {name: tensors[name] for name in tensors if name in chosen and name in layers}
    if not found:
        raise UserError(
            f"LoRA targets '{spec}' name no linear or convolution layer of {model.source}; "
            "known: attention, wide, a scope's name, re:PATTERN"
        )
    return found


def _heads(model: Backend) -> set[str]:
    """A language model's output layer, which `all-linear` leaves out as well; nothing for the others."""
    if model.groups():
        return set()
    return set(network(model)) - set(linear(model))
