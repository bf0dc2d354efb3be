"""LoRA (Hu et al. 2021): peft's adapters on named layers, merged to be looked at."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.freeze import apply_freeze
from oubliette.train.scope import linear, network, select, text_encoder
from oubliette.train.tuning.modes import Reword, Trained, touch
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.train.tuning.budget import Budget

__all__ = ["Lora", "targets_of"]

_ADAPTER = "tuned"
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


@dataclass
class _Adapter:
    """A layer with an adapter around it, and where it hangs."""

    name: str
    parent: nn.Module
    attribute: str
    original: nn.Module
    layer: Any

    @property
    def weight(self) -> nn.Parameter:
        weight = self.original.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        down, up = self.layer.lora_A[_ADAPTER].weight, self.layer.lora_B[_ADAPTER].weight
        return {f"{self.name}.lora_A": down, f"{self.name}.lora_B": up}

    @torch.no_grad()
    def product(self) -> Tensor:
        """scale * B A in the layer's own shape, fp32."""
        return self.layer.get_delta_weight(_ADAPTER).detach().float()

    @torch.no_grad()
    def merged(self) -> Tensor:
        return (self.weight.detach().float() + self.product()).to(self.weight.dtype)


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
        _refuse_adapters(model)
        targets = targets_of(model, self.options.targets)
        named = apply_freeze(targets, frozen, known=model.tensors())
        alpha = float(budget.rank if budget.alpha is None else budget.alpha)
        adapters: list[_Adapter] = []
        try:
            _inject(model, set(named), budget.rank, alpha, budget.seed, adapters)
            parameters = {key: value for each in adapters for key, value in each.parameters.items()}
            trained = Trained(
                Weights(parameters),
                plain=lambda: _plain(model, adapters),
                changes=lambda: {each.name: each.product() for each in adapters},
            )
            yield trained
            if trained.kept:
                with torch.no_grad():
                    for each in adapters:
                        each.weight.copy_(each.merged())
        finally:
            for each in adapters:
                setattr(each.parent, each.attribute, each.original)
            for component in model.modules().values():
                vars(component).pop("peft_config", None)
            touch(model)


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
    layers = {id(module.weight) for _, _, module in _layers(model)}
    found = {name: tensors[name] for name in tensors if name in chosen and id(tensors[name]) in layers}
    if not found:
        raise UserError(
            f"LoRA targets '{spec}' name no linear or convolution layer of {model.source}; "
            "known: attention, wide, a scope's name, re:PATTERN"
        )
    return found


def _refuse_adapters(model: Backend) -> None:
    for name, component in model.modules().items():
        if hasattr(component, "peft_config"):
            raise UserError(f"{model.source}: {name} has adapters already; merge them into its weights first")


def _heads(model: Backend) -> set[str]:
    """A language model's output layer, which `all-linear` leaves out as well; nothing for the others."""
    if model.groups():
        return set()
    return set(network(model)) - set(linear(model))


def _layers(model: Backend) -> Iterator[tuple[nn.Module, str, Any]]:
    """(component, path, layer) of every layer that peft has an adapter for, without embeddings."""
    for component in model.modules().values():
        for path, module in component.named_modules():
            # GPT-2's linear layer is transformers' own Conv1D: a transposed weight, no convolution.
            if isinstance(module, nn.Linear | nn.Conv2d) or type(module).__name__ == "Conv1D":
                yield component, path, module


def _inject(
    model: Backend, wanted: set[str], rank: int, alpha: float, seed: int, adapters: list[_Adapter]
) -> None:
    """Put an adapter around each layer whose weight is wanted, and note it in `adapters`."""
    from peft import LoraConfig, inject_adapter_in_model

    names = {id(tensor): name for name, tensor in model.tensors().items() if name in wanted}
    found = [
        (component, path, module, names[id(module.weight)])
        for component, path, module in _layers(model)
        if id(module.weight) in names
    ]
    flags = {id(p): p.requires_grad for module in model.modules().values() for p in module.parameters()}
    for component in model.modules().values():
        own = [(path, module, name) for owner, path, module, name in found if owner is component]
        if not own:
            continue
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules="|".join(re.escape(path) for path, _, _ in own),
            init_lora_weights="gaussian",
        )
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # peft sees for itself that Conv1D is transposed
            inject_adapter_in_model(config, component, adapter_name=_ADAPTER)
        for path, module, name in own:
            head, _, attribute = path.rpartition(".")
            parent = component.get_submodule(head)
            adapters.append(_Adapter(name, parent, attribute, module, getattr(parent, attribute)))
    for each in adapters:
        _initialise(each, rank, seed)
    for module in model.modules().values():
        for parameter in module.parameters():
            parameter.requires_grad_(flags.get(id(parameter), False))


@torch.no_grad()
def _initialise(adapter: _Adapter, rank: int, seed: int) -> None:
    down, up = adapter.parameters.values()
    digest = hashlib.sha256(f"lora/{seed}/{adapter.name}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    down.copy_(torch.randn(down.shape, generator=rng) / rank)
    up.zero_()


@contextmanager
def _plain(model: Backend, adapters: list[_Adapter]) -> Iterator[None]:
    """The model with its own layers in place and the adapters' products in their weights, for a while."""
    held = [each.weight.data for each in adapters]
    try:
        for each in adapters:
            merged = each.merged()
            setattr(each.parent, each.attribute, each.original)
            each.weight.data = merged
        touch(model)
        yield
    finally:
        for each, value in zip(adapters, held, strict=True):
            each.weight.data = value
            setattr(each.parent, each.attribute, each.layer)
        touch(model)
