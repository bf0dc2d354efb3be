"""AdaVD: the concept's share taken out of the cross-attention's values, token by token, while drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.detach import readers
from oubliette.erase.diffusion.training_free import SettingsAlone, TrainingFree, words_of

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.backends.guidance import Guidance, Guide
    from oubliette.erase.prepare import DiffusionData

__all__ = ["AdaVD", "Decomposition", "ValueDecomposer", "orthogonal"]

_VALUES = ".to_v.weight"
_TINY = 1e-30  # of a square: where it is less there is no direction, and nothing along it
_DEPENDENT = 1e-6
"""A direction of which less than this share is left, beside those before it, is their sum and is left out."""

Vector = Literal["text", "joint"]


class ValueDecomposer(SettingsAlone):
    """What AdaVD adds to a model: hooks on the value projections `layers`, open while it predicts."""

    name: ClassVar[str] = "adavd"

    layers: tuple[str, ...] = Field(min_length=1)
    vector: Vector
    slope: float = Field(ge=0)
    centre: float
    height: float = Field(ge=0)

    def guide(self, model: DiffusionBackend, plain: Guidance) -> Guide:
        """The ordinary guidance of one batch, its values decomposed; see `Decomposition`."""
        modules = _modules(model, self.layers)
        parts = self._parts(model, plain, modules)
        joint = self.vector == "joint" and plain.guided
        rows = len(plain.text) if plain.guided else 0

        def predict(number: int, t: Tensor, latents: Tensor) -> Tensor:
            with _decomposed(modules, parts, rows, joint=joint):
                return plain(number, t, latents)

        return predict

    @torch.no_grad()
    def _parts(
        self, model: DiffusionBackend, plain: Guidance, modules: Sequence[nn.Module]
    ) -> list[Decomposition]:
        """Each layer's decomposition along the words' values, as the layer gives them now."""
        text = model.encode_text(self.words)
        last = text.hidden[torch.arange(len(text)), text.last_token.to(text.hidden.device)]
        empty = plain.empty.hidden[0]
        found = []
        for module in modules:
            concepts = module(last).float()
            own = concepts[:, None].expand(-1, len(empty), -1)
            if self.vector == "joint" and plain.guided:
                own = torch.cat([module(empty).float().expand_as(own), own], dim=-1)
            found.append(Decomposition.of(own.transpose(0, 1), self))
        return found


@dataclass(frozen=True)
class Decomposition:
    """What is taken from a layer's values: at each token position l, the part along the concepts' own values.

    One concept c: v <- v - d(cos(v, c)) <c, v> / ||c||^2 c, with d(x) = height / (1 + exp(-slope (x -
    centre))). Several: sum_i <q_i, v> / ||q_i||^2 sum_j P_ij d(cos(v, c_j)) c_j is taken, where q = P c are
    orthogonal (P lower triangular with ones, Gram and Schmidt); with d = 1 that is the projection on their
    span. Position 0, the start token, is left alone. `concepts` and `orthogonal` are (L, n, d),
    `mixing` (L, n, n), float32. Paper: Wang et al. 2025 (2412.06143).
    """

    concepts: Tensor
    orthogonal: Tensor
    mixing: Tensor
    slope: float
    centre: float
    height: float

    @classmethod
    def of(cls, concepts: Tensor, settings: ValueDecomposer) -> Decomposition:
        """From the concepts' values (L, n, d) at each position."""
        directions, mixing = orthogonal(concepts)
        return cls(concepts, directions, mixing, settings.slope, settings.centre, settings.height)

    def kept(self, values: Tensor) -> Tensor:
        """Values (B, L, d) less the concepts' part; the arithmetic is float32, the dtype stays."""
        v = values.float()
        squared = self.orthogonal.square().sum(dim=-1)
        along = torch.einsum("lnd,bld->bln", self.orthogonal, v) / squared.clamp(min=_TINY)
        lengths = self.concepts.norm(dim=-1) * v.norm(dim=-1, keepdim=True)
        near = torch.einsum("lnd,bld->bln", self.concepts, v) / lengths.clamp(min=_TINY)
        adapted = self.height * torch.sigmoid(self.slope * (near - self.centre))
        weights = torch.einsum("bln,lnm->blm", along, self.mixing) * adapted
        weights[:, 0] = 0
        return (v - torch.einsum("blm,lmd->bld", weights, self.concepts)).to(values.dtype)


class AdaVD(TrainingFree):
    """Takes each concept's part out of the values that the cross-attention reads; no weight moves.

    A concept's value is its layer's own at the last token of the bare name, one for all positions; names and
    synonyms are concepts of their own. Almost free. Paper: Wang et al., CVPR 2025, arXiv 2412.06143.
    """

    name: ClassVar[str] = "adavd"
    title: ClassVar[str] = "AdaVD"
    paper: ClassVar[str] = (
        "Wang et al., Precise, Fast, and Low-cost Concept Erasure in Value Space, CVPR 2025 (2412.06143)"
    )

    class Options(StrictModel):
        """The sigmoid of the factor d and what it sees; the defaults of the sigmoid are the released ones."""

        slope: float = Field(default=100.0, ge=0, description="a: how sharply d rises with the cosine")
        centre: float = Field(default=0.93, description="b: the cosine at which d is half its height")
        height: float = Field(default=2.0, ge=0, description="c: the largest d")
        vector: Vector = Field(
            default="text",
            description="decompose the prompt's values; or, as released, the empty prompt's and the prompt's "
            "as one vector, both of which change",
        )

    options: Options

    def attachment(
        self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]
    ) -> ValueDecomposer:
        """What goes with `model`, on the text-facing value projections in `scope`; UserError without any."""
        facing = set(model.text_facing())
        layers = tuple(name for name in scope if name in facing and name.endswith(_VALUES))
        if not layers:
            raise UserError(
                f"{self.title} works on the values that the cross-attention reads, and the scope holds none "
                f"of their projections (named '..{_VALUES}'); use scope xattn-kv"
            )
        return ValueDecomposer(words=words_of(self.request), layers=layers, **self.options.model_dump())


def orthogonal(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Gram and Schmidt without norming: rows c (..., n, d) made orthogonal, q = P c, and P (..., n, n).

    A row that those before it span (but for rounding) becomes zero.
    """
    count = vectors.shape[-2]
    mixing = torch.eye(count).to(vectors).expand(*vectors.shape[:-2], count, count).clone()
    made = vectors.clone()
    for row in range(1, count):
        before, own = made[..., :row, :].clone(), vectors[..., row : row + 1, :]
        squared = before.square().sum(dim=-1)
        shares = (before @ own.transpose(-1, -2)).squeeze(-1) / squared.clamp(min=_TINY)
        mixing[..., row, :row] = -(shares[..., None, :] @ mixing[..., :row, :row]).squeeze(-2)
        rest = own.squeeze(-2) - (shares[..., None, :] @ before).squeeze(-2)
        left = rest.norm(dim=-1) > _DEPENDENT * own.squeeze(-2).norm(dim=-1)
        made[..., row, :] = torch.where(left[..., None], rest, 0.0)
    return made, mixing


@contextmanager
def _decomposed(
    modules: Sequence[nn.Module], parts: Sequence[Decomposition], rows: int, *, joint: bool
) -> Iterator[None]:
    """While open, each module's output (B, L, d) is decomposed from row `rows` on, or with those before."""

    def hook(part: Decomposition) -> Any:
        def change(module: nn.Module, inputs: Any, values: Tensor) -> Tensor:
            blank, own = values[:rows], values[rows:]
            if joint:
                both = part.kept(torch.cat([blank, own], dim=-1))
                return torch.cat(both.chunk(2, dim=-1))
            return torch.cat([blank, part.kept(own)])

        return change

    handles = [module.register_forward_hook(hook(part)) for module, part in zip(modules, parts, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _modules(model: DiffusionBackend, layers: Sequence[str]) -> list[nn.Module]:
    known: Mapping[str, Any] = model.tensors()
    for name in layers:
        if name not in known:
            raise UserError(
                f"attachment 'adavd': {model.source} has no tensor '{name}'; {suggest(name, known)}"
            )
    return readers(model, layers)
