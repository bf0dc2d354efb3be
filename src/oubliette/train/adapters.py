"""Training adapters in the place of the weights they lie over: peft's layers, of which A and B alone move."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.files.lora_form import Factors
from oubliette.backends.layers import ADAPTER, adaptable
from oubliette.core.errors import UserError
from oubliette.train.trainable import parameters_of, these_alone, touch
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Adapters", "Merged", "Products", "layers_in"]

_RTOL = 1e-8  # of a Gram matrix: directions of a factor under 1e-4 of its longest are none


def layers_in(model: Backend, named: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The tensors of a scope that an adapter can lie over: weights of linear layers and convolutions.

    UserError where there are none.
    """
    layers = adaptable(model)
    found = {name: tensor for name, tensor in named.items() if name in layers}
    if not found:
        raise UserError(
            "scope.rank: the scope holds no matrix of a linear layer or convolution, so there is nothing of "
            "a low rank to train"
        )
    return found


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
        down, up = self.layer.lora_A[ADAPTER].weight, self.layer.lora_B[ADAPTER].weight
        return {f"{self.name}.lora_A": down, f"{self.name}.lora_B": up}

    @torch.no_grad()
    def product(self) -> Tensor:
        """scale * B A in the layer's own shape, fp32."""
        product: Tensor = self.layer.get_delta_weight(ADAPTER).detach().float()
        return product

    @torch.no_grad()
    def merged(self) -> Tensor:
        return (self.weight.detach().float() + self.product()).to(self.weight.dtype)

    def put(self, layer: nn.Module) -> None:
        setattr(self.parent, self.attribute, layer)


class Products(Mapping[str, Tensor]):
    """What each weight moves by, by its name: scale * B A (fp32), made when it is asked for."""

    def __init__(self, adapters: Sequence[_Adapter]) -> None:
        self._by_name = {each.name: each for each in adapters}

    def __getitem__(self, name: str) -> Tensor:
        return self._by_name[name].product()

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


class Adapters(Weights):
    """Adapters over layers of a model: `y = W x + (alpha / rank) B A x`, and A and B are what is trained.

    `named` are the weights W, none of which moves, is copied, or gets a gradient. A is (rank, in), a
    convolution's (rank, in, k, k), B (out, rank, ...), both fp32 at least, whatever W is. A starts as
    N(0, 1 / rank^2), drawn from `stream`, `seed` and the weight's name alone, and B as zero: the start is the
    original, and a mask does not change the adapters it leaves. `stream` keeps an attacker's A apart from an
    eraser's of the same seed, whose rows would be half the way back. `names` are "NAME.lora_A" and
    "NAME.lora_B"; surgery, clipping and smoothers see their gradients. The model has its own layers again
    after `settled`, `restore` or `close`, and inside `plain`. UserError for a model with adapters already.

    LoRA: Hu et al., ICLR 2022 (2106.09685).
    """

    original: dict[str, Tensor]
    """The base's weights by their own names: they lie where they lay."""

    def __init__(
        self,
        model: Backend,
        named: Mapping[str, nn.Parameter],
        *,
        rank: int,
        alpha: float | None = None,
        seed: int = 0,
        stream: str = "low rank",
    ) -> None:
        self.rank, self.alpha, self.seed = rank, float(rank if alpha is None else alpha), seed
        self.stream, self._model = stream, model
        self._adapters: list[_Adapter] = []
        _refuse_adapters(model)
        try:
            _inject(model, set(named), rank, self.alpha, self._adapters)
            for each in self._adapters:
                for name, factor in each.parameters.items():
                    if factor.dtype.itemsize < 4:
                        factor.data = factor.data.float()  # small as they are, they need no 16-bit twin
                    factor.data.copy_(self._start(each)[name])
            super().__init__({key: p for each in self._adapters for key, p in each.parameters.items()})
        except BaseException:
            self.close()
            raise

    def _originals(self) -> dict[str, Tensor]:
        return {each.name: each.weight.detach() for each in self._adapters}

    @property
    def start(self) -> dict[str, Tensor]:
        """A as it was drawn and B zero, made anew."""
        return {name: value for each in self._adapters for name, value in self._start(each).items()}

    def _start(self, adapter: _Adapter) -> dict[str, Tensor]:
        digest = hashlib.sha256(f"{self.stream}/{self.seed}/{adapter.name}".encode()).digest()
        rng = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        (name, down), (other, up) = adapter.parameters.items()
        drawn = torch.randn(down.shape, generator=rng) / self.rank
        return {name: drawn.to(down.device), other: torch.zeros_like(up)}

    @contextmanager
    def originals(self) -> Iterator[None]:
        """The model without its adapters inside the block: nothing is copied, and every bit returns."""
        # B lies nowhere meanwhile: caches that go by a tensor's address see that the model is another.
        with self._held([up.new_empty(0) for up in self.parameters[1::2]], on=False), self._reference():
            yield

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """The start inside the block, in memory of its own: what is trained there is gone after."""
        ups = [
            down.new_zeros(each.layer.out_features, self.rank, *(1 for _ in down.shape[2:]))
            for each, down in zip(self._adapters, self.parameters[::2], strict=True)
        ]
        downs = [down.detach().clone() for down in self.parameters[::2]]
        with self._held(ups, downs=downs, on=True):
            yield

    @contextmanager
    def _held(self, ups: list[Tensor], *, on: bool, downs: list[Tensor] | None = None) -> Iterator[None]:
        """Hold these factors inside the block, the adapters on or off."""
        downs = downs or [down.data for down in self.parameters[::2]]
        was = not self._adapters[0].layer.disable_adapters
        moving = [parameter for parameter in self.parameters if parameter.requires_grad]
        values = [factor for pair in zip(downs, ups, strict=True) for factor in pair]
        with these_alone(self.parameters, moving), self._swapped(values):
            try:
                self._switch(on)
                yield
            finally:
                self._switch(was)

    def _switch(self, on: bool) -> None:
        for each in self._adapters:
            each.layer.enable_adapters(on)

    @contextmanager
    def uphill(self, gradient: list[Tensor], length: float) -> Iterator[float]:
        """Hold `W + s B A + E` inside the block, E of Frobenius norm `length` over all layers together.

        E is steepest among the moves of the products that their ranks allow: along the gradient G of W, less
        what lies across both factors, P G + (1 - P) G Q with the projections P on B's columns and Q on A's
        rows. It follows from the factors' gradients s B^T G and s G A^T alone, and does not change where a
        factor is scaled up and the other down. What is said is the norm of that part of G.
        """
        moves = [
            _tangent(each, down, up, self.alpha / self.rank)
            for each, down, up in zip(self._adapters, gradient[::2], gradient[1::2], strict=True)
        ]
        norm = sum(square for _, _, square in moves) ** 0.5
        factor = length / norm if norm > 0 else 0.0
        with ExitStack() as stack:
            for each, (down, up, _) in zip(self._adapters, moves, strict=True):
                rank = down.shape[0] // 2
                down[:rank].mul_(factor)
                up[:, rank:].mul_(factor)
                dtype = each.layer.lora_A[ADAPTER].weight.dtype
                hook = _added(each.original, down.to(dtype), up.to(dtype))
                stack.callback(each.layer.register_forward_hook(hook).remove)
            del moves, gradient
            yield norm

    @contextmanager
    def plain(self) -> Iterator[None]:
        """The model's own layers in place inside the block, the products in their weights."""
        held = [each.weight.data for each in self._adapters]
        try:
            for each in self._adapters:
                merged = each.merged()
                each.put(each.original)
                each.weight.data = merged
            touch(self._model)
            yield
        finally:
            for each, value in zip(self._adapters, held, strict=True):
                each.weight.data = value
                each.put(each.layer)
            touch(self._model)

    def delta(self) -> Products:
        """The products by the weights' names, each made when it is asked for."""
        return Products(self._adapters)

    @property
    def factors(self) -> Factors:
        """The adapters as they stand, on the CPU."""
        values = {name: p.detach().to("cpu", copy=True) for name, p in self._named.items()}
        return Factors(values, self.rank, self.alpha)

    def restore(self) -> None:
        """Take the adapters off (undo)."""
        self.close()

    def close(self, *, keep: bool = False) -> None:
        """Take the adapters off, merged into the weights first if they are to be kept."""
        with torch.no_grad():
            for each in self._adapters:
                if keep:
                    each.weight.copy_(each.merged())
                each.put(each.original)
        for component in self._model.modules().values():
            if ADAPTER in getattr(component, "peft_config", {}):
                del component.peft_config
        touch(self._model)

    def settled(self) -> Merged:
        """The products merged into the weights, and the adapters off."""
        return Merged(self)


class Merged(Weights):
    """Weights that adapters were merged into, with their originals in the CPU's memory.

    There is room for them once training is over, where on a GPU there may be none.
    """

    def __init__(self, adapters: Adapters) -> None:
        self._adapters, self._factors = adapters._adapters, adapters.factors
        super().__init__({each.name: each.weight for each in self._adapters})
        adapters.close(keep=True)

    def _originals(self) -> dict[str, Tensor]:
        return {name: p.detach().to("cpu", copy=True) for name, p in self._named.items()}

    @contextmanager
    def originals(self) -> Iterator[None]:
        """The starting weights inside the block, written over the others, which the CPU holds meanwhile."""
        held = [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]
        try:
            self.restore()
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, held, strict=True):
                    parameter.copy_(value)

    def delta(self) -> Products:
        """The products by name, each made when it is asked for."""
        return Products(self._adapters)

    @property
    def factors(self) -> Factors:
        """The adapters, as they were trained."""
        return self._factors

    def _unrounded(self) -> Sequence[Tensor]:
        return [
            each.weight.detach()
            if each.weight.dtype.itemsize >= 4
            else self.original[each.name].to(each.weight.device, torch.float32) + each.product()
            for each in self._adapters
        ]


def _refuse_adapters(model: Backend) -> None:
    for name, component in model.modules().items():
        if hasattr(component, "peft_config"):
            raise UserError(f"{model.source}: {name} has adapters already; merge them into its weights first")


def _inject(model: Backend, wanted: set[str], rank: int, alpha: float, adapters: list[_Adapter]) -> None:
    """Put an adapter around each layer whose weight is wanted, and note it in `adapters`."""
    from peft import LoraConfig, inject_adapter_in_model

    names = {id(layer): name for name, layer in adaptable(model).items() if name in wanted}
    every = parameters_of(model)
    flags = [parameter for parameter in every if parameter.requires_grad]
    for component in model.modules().values():
        own = [(path, layer) for path, layer in component.named_modules() if id(layer) in names]
        if not own:
            continue
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules="|".join(re.escape(path) for path, _ in own),
            init_lora_weights="gaussian",
        )
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # peft sees for itself that Conv1D is transposed
            inject_adapter_in_model(config, component, adapter_name=ADAPTER)
        for path, layer in own:
            head, _, attribute = path.rpartition(".")
            parent = component.get_submodule(head)
            adapters.append(_Adapter(names[id(layer)], parent, attribute, layer, getattr(parent, attribute)))
    moving = {id(parameter) for parameter in flags}
    for parameter in parameters_of(model):
        parameter.requires_grad_(id(parameter) in moving)


@torch.no_grad()
def _tangent(adapter: _Adapter, down: Tensor, up: Tensor, scale: float) -> tuple[Tensor, Tensor, float]:
    """A layer's part of E as factors (2 r, in) and (out, 2 r), still to be scaled, and its squared norm.

    `down` and `up` are the gradients of A and B. The upper half of the first, X, and the right half of the
    second, Y, are the direction: E = B X + Y A. In fp64.
    """
    a, b = (factor.detach().flatten(1).double() for factor in adapter.parameters.values())
    to_a, to_b = down.flatten(1).double() / scale, up.flatten(1).double() / scale
    gram_a, gram_b = a @ a.T, b.T @ b
    inverse_a, inverse_b = (torch.linalg.pinv(gram, rtol=_RTOL, hermitian=True) for gram in (gram_a, gram_b))
    x = inverse_b @ to_a
    y = (to_b - b @ (inverse_b @ (b.T @ to_b))) @ inverse_a
    square = float((x * (gram_b @ x)).sum() + (y * (y @ gram_a)).sum())  # B X and Y A are at right angles
    return torch.cat([x, a]), torch.cat([b, y], dim=1), square


def _added(layer: nn.Module, down: Tensor, up: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that adds `up down x` to what comes out of a layer."""

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        x = inputs[0].to(down.dtype)
        if isinstance(layer, nn.Conv2d):
            kernel = down.view(-1, *layer.weight.shape[1:])
            found = F.conv2d(layer._conv_forward(x, kernel, None), up[:, :, None, None])
        else:
            found = F.linear(F.linear(x, down), up)
        return output + found.to(output.dtype)

    return hook
