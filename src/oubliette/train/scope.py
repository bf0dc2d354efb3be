"""Which tensors may move, chosen by name and by what the model says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from oubliette.backends.base import CROSS_ATTENTION, DENOISER, TEXT_ENCODER
from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import StrictModel, validated
from oubliette.train import SCOPES

if TYPE_CHECKING:
    from torch import nn

    from oubliette.backends.base import Backend
    from oubliette.train.attribution import Attribution

__all__ = [
    "Rule",
    "ScopeSpec",
    "check_scope",
    "cross_attention",
    "linear",
    "measured_rule",
    "network",
    "outside_cross_attention",
    "select",
    "text_encoder",
    "text_facing",
]

Rule = Callable[["Backend"], Iterable[str]]
"""Names of a model's tensors; a rule reads what the model says of itself, never of what class it is. One that
is `measured` names all that may move, and chooses among them by a loss (`oubliette.train.attribution`).
"""

_PATTERN = "re:"


class ScopeSpec(StrictModel):
    """A scope as a recipe has it: which tensors, and how far into them a trained method may go.

    `rank` trains adapters of that rank over each linear layer and convolution instead of the tensors
    (`train.adapters`), `alpha` over `rank` being their scale (default: equal). `elements` is an element mask
    (`erase.ELEMENTS`): a name, or a mapping with a name and its options; the elements outside it stay as they
    are. `top` is how many blocks a scope takes that chooses them by measuring (`attribution`).
    """

    name: str
    top: int | None = Field(default=None, ge=1)
    rank: int | None = Field(default=None, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    elements: str | dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> ScopeSpec:
        if self.alpha is not None and self.rank is None:
            raise ValueError("alpha is the scale of a low-rank difference: give rank too")
        if self.rank is not None and self.elements is not None:
            raise ValueError("rank and elements exclude each other: a masked product has no low rank")
        return self


def select(
    model: Backend, spec: str | Mapping[str, Any], *, measured: bool = False
) -> dict[str, nn.Parameter]:
    """The tensors a scope names, in the model's order; of one that is measured all that may be chosen, for
    who then measures (`measured`).

    `spec` is a rule's name, "re:PATTERN" (searched in the full tensor names), or a mapping with such a
    `name` (`ScopeSpec`). UserError where it is unknown or selects nothing, and for a measured one where
    nothing is measured.
    """
    name = check_scope(spec).name
    tensors = model.tensors()
    if not measured and measured_rule(spec) is not None:
        raise UserError(f"scope '{name}' is measured on what is to be forgotten: it is for erasing alone")
    if name.startswith(_PATTERN):
        pattern = re.compile(name.removeprefix(_PATTERN))
        chosen = {key for key in tensors if pattern.search(key)}
    else:
        chosen = set(SCOPES.get(name)(model))
    selected = {key: parameter for key, parameter in tensors.items() if key in chosen}
    if not selected:
        example = ", ".join(list(tensors)[:3])
        raise UserError(
            f"scope '{name}' selects no tensor of {model.source}; its tensors are named like {example}"
        )
    return selected


def check_scope(spec: str | Mapping[str, Any]) -> ScopeSpec:
    """The scope, checked; UserError where its name is no rule and no valid pattern, or a key is unknown."""
    found = validated(ScopeSpec, {"name": spec} if isinstance(spec, str) else spec, "scope")
    name = found.name
    if name.startswith(_PATTERN):
        try:
            re.compile(name.removeprefix(_PATTERN))
        except re.error as error:
            raise UserError(f"scope '{name}': not a regular expression: {error}") from None
    elif name not in SCOPES:
        raise UserError(f"no scope is called '{name}'; {suggest(name, SCOPES.names())}, or re:PATTERN")
    if found.top is not None and measured_rule(name) is None:
        raise UserError(f"scope '{name}' measures no blocks: top is of one that does; leave it out")
    return found


def measured_rule(spec: str | Mapping[str, Any]) -> Attribution | None:
    """The rule of a scope that is measured, None for any other."""
    name = spec if isinstance(spec, str) else spec["name"]
    rule: Any = SCOPES.get(name) if name in SCOPES else None
    return rule if getattr(rule, "measured", False) else None


def text_facing(model: Backend) -> list[str]:
    """The weights that read text: keys and values of the cross-attention."""
    return model.text_facing()


def cross_attention(model: Backend) -> list[str]:
    """Every tensor of the layers that read the text: queries and outputs too."""
    return model.groups().get(CROSS_ATTENTION, [])


def outside_cross_attention(model: Backend) -> list[str]:
    """Linear and convolution tensors of the network that lie outside its cross-attention (ESD-u)."""
    reads = set(cross_attention(model))
    if not reads:
        return []
    tensors = model.tensors()
    inside = network(model)
    # A projection or a convolution is a weight of two or more dimensions, and the bias beside it.
    matrices = {name.rpartition(".")[0] for name in inside if tensors[name].ndim >= 2}
    return [name for name in inside if name.rpartition(".")[0] in matrices and name not in reads]


def network(model: Backend) -> list[str]:
    """Every tensor of a diffusion model's denoiser; every tensor of a model that has none."""
    return model.groups().get(DENOISER) or list(model.tensors())


def text_encoder(model: Backend) -> list[str]:
    """Every tensor of the text encoders."""
    return model.groups().get(TEXT_ENCODER, [])


def linear(model: Backend) -> list[str]:
    """Weights of the network's linear layers, without embeddings and output layer (peft's `all-linear`)."""
    from torch import nn

    inside = set(network(model))
    names = {id(parameter): name for name, parameter in model.tensors().items()}
    found: set[str] = set()
    excluded: set[str] = set()
    for component in model.modules().values():
        head = getattr(component, "get_output_embeddings", lambda: None)()
        for module in component.modules():
            name = names.get(id(getattr(module, "weight", None)))
            if name is None:
                continue
            if module is head or isinstance(module, nn.Embedding):
                excluded.add(name)
            # GPT-2's linear layer is transformers' own Conv1D: a transposed weight, no convolution.
            elif isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
                found.add(name)
    return sorted((found & inside) - excluded)
