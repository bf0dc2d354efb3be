"""Delta transplant: what was taken out of a sibling, or learnt on the original, is added to the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from oubliette.attack.probes.probe import PUBLISHED, Given, Probe, Shown, draws
from oubliette.attack.types import Drawing
from oubliette.backends.files import adapters
from oubliette.backends.files.stored import canonical
from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.backends.base import Backend


class Transplant(Probe):
    """Add a delta to the erased model's tensors and draw the cases as usual.

    The delta is `strength` times: original - an erased `sibling` of the same original, a `lora` that was
    trained on the original (a safetensors file as diffusers or peft write it), or any `delta` by name. With
    none of them it is original - model, which with strength 1 gives the original back: a check of the
    harness, not an attack (the fact `own` is 1). The fact `cosine`, where the original is given, is that
    between the delta and original - model. Row W1 of the attack catalogue (ours).
    """

    name: ClassVar[str] = "transplant"
    about: ClassVar[str] = "add original - erased of a public sibling, or a LoRA trained on the original"
    paper: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"base", "text"})

    class Options(StrictModel):
        """`strength` of the delta; `sibling`: an erased model's name or folder; `lora`: a file."""

        strength: float = Field(1.0, gt=0)
        sibling: str | None = None
        lora: str | None = None

        @model_validator(mode="after")
        def _one_source(self) -> Any:
            if self.sibling is not None and self.lora is not None:
                raise ValueError("give a sibling or a lora, not both")
            return self

    def __init__(self, options: Any = None, *, delta: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(options)
        self.delta = delta

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Drawing = PUBLISHED, given: bool = False) -> Cost:
        """A drawing a case."""
        return Cost(forwards=draws(sampling, n), backwards=0, pictures=n)

    def _show(self, given: Given) -> Shown:
        """The cases' pictures, drawn by the model with the delta in it, from the cases' own seeds."""
        model, cases, sampling = given.model, given.cases, given.sampling
        if not cases:
            raise UserError(f"probe '{self.name}': no prompts were given")
        own = None if given.base is None else Difference(given.base, model)
        delta = self._source(model, given.base)
        if delta is None:
            if own is None:
                raise UserError(
                    "probe 'transplant' needs a delta: a lora, or the original model (--base), best with an "
                    "erased sibling of it"
                )
            delta = own
        with transplanted(model, delta, self.options.strength) as moved:
            drawn = model.draw(
                [case.prompt for case in cases],
                [case.seed for case in cases],
                steps=sampling.steps,
                guidance=sampling.guidance,
                batch=sampling.batch,
                progress=given.progress,
            )
        facts = {"strength": self.options.strength, "tensors": float(len(moved)), "own": float(delta is own)}
        norm, own_norm, inner = _products(delta, own)
        facts["norm"] = norm
        if own is not None and norm and own_norm:
            facts["cosine"] = inner / norm / own_norm
        return Shown(drawn, tuple(c.prompt for c in cases), tuple(c.seed for c in cases), facts)

    def _source(self, model: Backend, base: Backend | None) -> Mapping[str, Tensor] | None:
        if self.delta is not None:
            return self.delta
        if self.options.lora is not None:
            return read_lora(self.options.lora, model)
        if self.options.sibling is None:
            return None
        if base is None:
            raise UserError(
                "probe 'transplant' with a sibling adds original - sibling; give the original (--base)"
            )
        from oubliette.backends import open_model

        return Difference(base, open_model(self.options.sibling, device=model.device))


class Difference(Mapping[str, Tensor]):
    """original - erased by tensor name, only where they differ, formed when it is asked for.

    In float64, where the difference of two float32 numbers of like size is exact, so that it gives the
    original's bits when it is added back. Holds on to both models and no tensor of its own. Raises
    UserError where their tensors are not the same ones.
    """

    def __init__(self, original: Backend, erased: Backend) -> None:
        left, right = original.tensors(), erased.tensors()
        shapes = [{name: tuple(p.shape) for name, p in side.items()} for side in (left, right)]
        if shapes[0] != shapes[1]:
            odd = next(name for name in {**left, **right} if shapes[0].get(name) != shapes[1].get(name))
            raise UserError(
                f"{erased.source} is no sibling of {original.source}: tensor '{odd}' is "
                f"{shapes[1].get(odd, 'not there')}, the original's {shapes[0].get(odd, 'not there')}"
            )
        self._left, self._right = left, right
        self._names = [
            name
            for name in left
            if not torch.equal(left[name].detach(), right[name].detach().to(left[name].device))
        ]

    def __getitem__(self, name: str) -> Tensor:
        left, right = self._left[name].detach(), self._right[name].detach()
        return left.double() - right.to(left.device).double()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def transplanted(model: Backend, delta: Mapping[str, Tensor], strength: float = 1.0) -> Iterator[list[str]]:
    """Hold `weights + strength * delta` inside the block; gives the names, and every bit returns at its end.

    The sum is formed in float64 and rounded once to the weights' dtype. Raises UserError, before a weight
    is touched, for a name the model does not have or a tensor that does not fit it.
    """
    own = model.tensors()
    for name in delta:
        if name not in own:
            raise UserError(
                f"the delta's tensor {name!r} has no place in {model.source}; {suggest(name, own)}"
            )
        shape, fits = tuple(delta[name].shape), tuple(own[name].shape)
        if shape != fits:
            raise UserError(f"the delta's tensor {name!r} is {shape}, that of {model.source} {fits}")
    before: dict[str, Tensor] = {}
    try:
        # Written in place, which a text encoder's cache of prompts notices; a swapped pointer may not be.
        with torch.no_grad():
            for name in delta:
                moved = own[name].double() + strength * delta[name].to(own[name].device).double()
                before[name] = own[name].detach().clone()
                own[name].copy_(moved)
        yield list(before)
    finally:
        with torch.no_grad():
            for name, value in before.items():
                own[name].copy_(value)


def read_lora(path: Path | str, model: Backend) -> dict[str, Tensor]:
    """A LoRA file's delta by tensor name, (alpha / rank) B A in float32, shaped as the model's tensors.

    UserError for what `backends.files.adapters.read_lora` refuses, and for a layer that the model lacks.
    """
    path = Path(path)
    own = {canonical(name): name for name in model.tensors()}
    delta: dict[str, Tensor] = {}
    for module, lora in adapters.read_lora(path).items():
        name = _place(module, own, path, model)
        shape = tuple(model.tensors()[name].shape)
        product = lora.up.float().flatten(1) @ lora.down.float().flatten(1)
        if product.numel() != model.tensors()[name].numel() or product.shape[0] != shape[0]:
            raise UserError(f"{path}: {module!r} makes {tuple(product.shape)}, the tensor is {shape}")
        delta[name] = lora.scale * product.reshape(shape)
    return delta


def _place(module: str, own: Mapping[str, str], path: Path, model: Any) -> str:
    """The model's name of the weight that a LoRA's module stands for."""
    for name in (f"{module}.weight", f"{model.family.denoiser}.{module}.weight"):
        if canonical(name) in own:
            return own[canonical(name)]
    raise UserError(f"{path}: {module!r} is no module of {model.source}")


def _products(delta: Mapping[str, Tensor], own: Mapping[str, Tensor] | None) -> tuple[float, float, float]:
    """The norm of the delta, that of original - model, and their inner product."""
    square = own_square = inner = 0.0
    for name in {**dict.fromkeys(delta), **dict.fromkeys(own or ())}:
        left = delta[name].double().cpu() if name in delta else None
        right = own[name].double().cpu() if own is not None and name in own else None
        square += 0.0 if left is None else float(left.square().sum())
        own_square += 0.0 if right is None else float(right.square().sum())
        inner += 0.0 if left is None or right is None else float((left * right).sum())
    return square**0.5, own_square**0.5, inner
