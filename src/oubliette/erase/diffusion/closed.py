"""What the closed forms share: which prompts and token rows are mapped, and edits W R of every projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.erase.edit import Edit

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend, TextEmbedding
    from oubliette.erase.prepare import DiffusionData
    from oubliette.erase.request import ErasureRequest

__all__ = [
    "EXPANSIONS",
    "MappingOptions",
    "RightFactor",
    "TokenMode",
    "cholesky",
    "edited",
    "mapped_prompts",
    "mapped_rows",
    "pull",
    "right_factor",
    "token_rows",
    "uce_factor",
]

TokenMode = Literal["last", "last_to_end", "all"]

# The prompt expansions of UCE's released code, one list for styles and one for everything else.
EXPANSIONS: dict[str, tuple[str, ...]] = {
    "style": ("painting by {}", "art by {}", "artwork by {}", "picture by {}", "style of {}"),
    "other": ("image of {}", "photo of {}", "portrait of {}", "picture of {}", "painting of {}"),
}


class MappingOptions(StrictModel):
    """Options of every closed form that maps a concept's embeddings to its anchor's: which prompts and
    tokens.
    """

    token_mode: TokenMode = Field(
        default="last", description="which token rows are mapped: last, last_to_end or all"
    )
    prompts: Literal["name", "expanded", "bank"] = Field(
        default="name",
        description="the bare name; with the released code's expansions; or the bank's prompt pairs",
    )
    synonyms: bool = Field(default=True, description="map each concept's synonyms to its anchor too")


def mapped_prompts(
    options: MappingOptions, request: ErasureRequest, data: DiffusionData
) -> list[tuple[str, str]]:
    """The (erased, anchor) prompts that the options ask for, over all concepts; a user's own pairs come
    first.
    """
    found: list[tuple[str, str]] = []
    if request.pairs or options.prompts == "bank":
        found = [(pair.target, pair.anchor) for pair in data.pairs]
    for concept in request.concepts:
        names = [concept.name, *(concept.synonyms if options.synonyms else ())]
        found += [(name, concept.anchor) for name in names]
        if options.prompts == "expanded":
            shapes = EXPANSIONS["style" if concept.kind == "style" else "other"]
            found += [
                (shape.format(name), shape.format(concept.anchor)) for name in names for shape in shapes
            ]
    return list(dict.fromkeys(found))


def token_rows(source: TextEmbedding, anchor: TextEmbedding, mode: TokenMode) -> tuple[Tensor, Tensor]:
    """The rows (n, d) of `source` that are edited and the rows (n, d) of `anchor` that they are mapped to, in
    fp64.

    Both embeddings hold the same number of prompts, one pair a row. "last": each prompt's last subject token.
    "last_to_end": from there to the end of the context, the longer side cut on the right so that both have as
    many. "all": every position, by position.
    """
    rows: list[Tensor] = []
    goals: list[Tensor] = []
    context = source.hidden.shape[1]
    for index in range(source.hidden.shape[0]):
        begin, goal = int(source.last_token[index]), int(anchor.last_token[index])
        count = {"last": 1, "last_to_end": context - max(begin, goal), "all": context}[mode]
        if mode == "all":
            begin = goal = 0
        rows.append(source.hidden[index, begin : begin + count])
        goals.append(anchor.hidden[index, goal : goal + count])
    return torch.cat(rows).double(), torch.cat(goals).double()


def mapped_rows(
    model: DiffusionBackend, pairs: Sequence[tuple[str, str]], mode: TokenMode
) -> tuple[Tensor, Tensor]:
    """`token_rows` of (erased, anchor) prompts: what is mapped (n, d), and to what (n, d), in fp64."""
    return token_rows(
        model.encode_text([target for target, _ in pairs]),
        model.encode_text([anchor for _, anchor in pairs]),
        mode,
    )


@dataclass(frozen=True)
class RightFactor:
    """R = left @ right (d, d), with which every projection W of one text width becomes W + W R; fp64.

    `left` (d, k) and `right` (k, d) are kept apart: where k is small, W R is formed as (W left) right, for a
    fraction of the cost, and is a LoRA as it stands. `of` sees to it that k is at most d.
    """

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> RightFactor:
        """The factor left @ right; multiplied out where k exceeds d, so that no later product costs more."""
        width = left.shape[0]
        return cls(left, right) if left.shape[1] <= width else cls(left @ right, torch.eye(width).to(left))

    @cached_property
    def dense(self) -> Tensor:
        """R itself, (d, d)."""
        return self.left @ self.right

    def then(self, later: RightFactor) -> RightFactor:
        """The factor of both edits, the later one made of the weights as this one leaves them.

        It is (I + R)(I + R') - I. Its rank is the sum of both, at most d.
        """
        return RightFactor.of(
            torch.cat([self.left, later.left + self.left @ (self.right @ later.left)], dim=1),
            torch.cat([self.right, later.right]),
        )

    def edit(self, name: str, weight: Tensor) -> Edit:
        """The edit W R of one weight (out, d), as factors wherever they are of lower rank than the weight."""
        left, right = self.left.to(weight), self.right.to(weight)
        if left.shape[1] < min(weight.shape):
            return Edit(name, factors=(weight @ left, right))
        return Edit(name, weight @ self.dense.to(weight))


def cholesky(matrix: Tensor, method: str, option: str) -> Tensor:
    """The Cholesky factor of a symmetric system; UserError, naming the `option` to raise, if it is
    singular.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise UserError(f"{method}: the system is singular; raise method.{option}")
    return factor


def pull(
    rows: Tensor,
    kept: Tensor,
    *,
    erase_weight: float = 1.0,
    retain_weight: float = 1.0,
    regularisation: float = 0.5,
    method: str = "UCE",
) -> Tensor:
    """a C Q^-1 (n, d) with Q = lam I + a C^T C + b P^T P: how far each erased row of C moves each direction.

    `rows` C is (n, d), `kept` P (m, d), m may be 0; fp64. Q does not depend on W: one Cholesky factor serves
    every layer of the same text width. Raises UserError if Q is singular, which only a regularisation of 0
    can cause.
    """
    q = regularisation * torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
    q += erase_weight * rows.T @ rows + retain_weight * kept.T @ kept
    solved = torch.cholesky_solve(rows.T.contiguous(), cholesky(q, method, "regularisation"))
    return erase_weight * solved.T


def uce_factor(rows: Tensor, goals: Tensor, pulled: Tensor) -> RightFactor:
    """The factor that moves `rows` toward `goals`; a row that is its own goal adds nothing to its rank."""
    moving = (goals != rows).any(dim=1)
    return RightFactor.of((goals - rows)[moving].T, pulled[moving])


def right_factor(
    rows: Tensor,
    goals: Tensor,
    kept: Tensor,
    *,
    erase_weight: float = 1.0,
    retain_weight: float = 1.0,
    regularisation: float = 0.5,
    method: str = "UCE",
) -> RightFactor:
    """The factor R with which every projection W becomes W + W R, in fp64.

    R = a sum_i (c*_i - c_i) c_i^T Q^-1 with Q = lam I + a sum_i c_i c_i^T + b sum_j p_j p_j^T, which
    minimises a sum ||W' c - W c*||^2 + b sum ||W' p - W p||^2 + lam ||W' - W||_F^2 (UCE, arXiv 2308.14761,
    in delta form). No bias enters, so layers with one are served too. `rows` and `goals` are (n, d), `kept`
    (m, d), m may be 0. UserError as `pull`.
    """
    pulled = pull(
        rows,
        kept,
        erase_weight=erase_weight,
        retain_weight=retain_weight,
        regularisation=regularisation,
        method=method,
    )
    return uce_factor(rows, goals, pulled)


def edited(
    model: DiffusionBackend, scope: Sequence[str], width: int, method: str
) -> Iterator[tuple[str, Tensor]]:
    """The text-facing weights in `scope`, by name, each in fp64 as it comes; other tensors are passed over.

    Raises UserError if the scope holds no text-facing weight, or one that does not read vectors of `width`.
    """
    facing = set(model.text_facing())
    names = [name for name in scope if name in facing]
    if not names:
        raise UserError(
            f"{method} edits the projections that read the text, and the scope holds none of them; "
            "use scope xattn-kv"
        )
    tensors = model.tensors()
    for name in names:
        found = tensors[name].shape[-1]
        if found != width:
            raise UserError(
                f"{method}: '{name}' reads vectors of width {found}, the text encoder gives {width}"
            )
    for name in names:
        yield name, tensors[name].detach().double()
