"""UCE: unified concept editing of the text-facing projections in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.erase.diffusion.closed import (
    MappingOptions,
    TokenMode,
    edited,
    mapped_prompts,
    mapped_rows,
    pull,
    token_rows,
    uce_factor,
)
from oubliette.erase.edit import Edit
from oubliette.erase.request import ErasureRequest

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData

_LEAST_SCALE = 0.1  # of the 2023 code: the retained terms count max(0.1, 1/n) of their weight


def orthogonal_goals(weight: Tensor, rows: Tensor, goals: Tensor) -> Tensor:
    """Goals (n, d) whose output is the part of W c* that is orthogonal to W c, row by row.

    W (c* - alpha c) with alpha = <W c*, W c> / ||W c||^2: the "tensor" technique of UCE's 2023 code. A row
    whose output is zero keeps its goal.
    """
    own, wanted = rows @ weight.T, goals @ weight.T
    squared = own.square().sum(dim=1, keepdim=True)
    alpha = (own * wanted).sum(dim=1, keepdim=True) / squared.clamp(min=torch.finfo(squared.dtype).tiny)
    return goals - alpha * rows


class UCE:
    """Maps each concept's text embeddings to its anchor's, in all key and value projections at once.

    Solved, not trained: seconds on a CPU, no pictures. Several concepts are solved in one system, so their
    order is of no account. Paper: Gandikota et al., WACV 2024, arXiv 2308.14761.
    """

    name: ClassVar[str] = "uce"
    title: ClassVar[str] = "UCE"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "solved"
    paper: ClassVar[str] = (
        "Gandikota et al., Unified Concept Editing in Diffusion Models, WACV 2024 (2308.14761)"
    )

    class Options(MappingOptions):
        """UCE's options; the defaults are the released code's: a = b = 1, lambda = 0.5, last token."""

        erase_weight: float = Field(default=1.0, gt=0, description="a: weight of each erased embedding")
        retain_weight: float = Field(default=1.0, ge=0, description="b: weight of each retained embedding")
        retain_scale: Literal["fixed", "inverse"] = Field(
            default="fixed",
            description="inverse: b times max(0.1, 1/n) for n retained prompts, as the 2023 code has it",
        )
        regularisation: float = Field(default=0.5, gt=0, description="lambda: how much the weights resist")
        technique: Literal["replace", "tensor"] = Field(
            default="replace",
            description="map to the anchor's output; or to its part orthogonal to the concept's (2023)",
        )
        retain: Literal["given", "bank"] = Field(
            default="given", description="retain the user's prompts, or the bank's if none"
        )
        retain_empty: bool = Field(
            default=False, description="also retain the empty prompt, as the first release did"
        )

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        self.options = options
        self.request = request

    def pairs(self, data: DiffusionData) -> list[tuple[str, str]]:
        """The (erased, anchor) prompts that the options ask for, over all concepts."""
        return mapped_prompts(self.options, self.request, data)

    def kept_prompts(self, data: DiffusionData) -> list[str]:
        """The prompts that are to stay as they are; those of earlier erasures among them."""
        prompts = list(self.request.retain)
        if not prompts and self.options.retain == "bank":
            prompts = list(data.retain_prompts())
        prompts += data.erased_before()
        if self.options.retain_empty and "" not in prompts:
            prompts.append("")
        return prompts

    def kept(self, model: DiffusionBackend, data: DiffusionData) -> Tensor:
        """The rows (m, d) that must not move: the last subject tokens, or all positions in the other token
        modes.
        """
        prompts = self.kept_prompts(data)
        if not prompts:
            width = model.encode_text([""]).hidden.shape[-1]
            return torch.zeros(0, width, dtype=torch.float64, device=model.device)
        text = model.encode_text(prompts)
        mode: TokenMode = "last" if self.options.token_mode == "last" else "all"
        return token_rows(text, text, mode)[0]

    def retain_weight(self, data: DiffusionData) -> float:
        """b, scaled as the options ask."""
        if self.options.retain_scale == "fixed":
            return self.options.retain_weight
        count = max(1, len(self.kept_prompts(data)))
        return self.options.retain_weight * max(_LEAST_SCALE, 1 / count)

    @torch.no_grad()
    def solve(self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]) -> Iterator[Edit]:
        """Yield one edit for each text-facing weight in `scope`; other tensors in the scope stay as they are.

        Raises UserError if the scope holds no text-facing weight, or one that does not read this text
        encoder's width.
        """
        rows, goals = mapped_rows(model, self.pairs(data), self.options.token_mode)
        pulled = self.pull(model, data, rows)
        shared = uce_factor(rows, goals, pulled)
        for name, weight in edited(model, scope, rows.shape[1], self.title):
            if self.options.technique == "tensor":
                here = rows.to(weight.device)
                own = orthogonal_goals(weight, here, goals.to(weight.device))
                yield uce_factor(here, own, pulled.to(weight.device)).edit(name, weight)
            else:
                yield shared.edit(name, weight)

    def pull(self, model: DiffusionBackend, data: DiffusionData, rows: Tensor) -> Tensor:
        """`closed.pull` of the erased rows (n, d), with what the options retain."""
        return pull(
            rows,
            self.kept(model, data),
            erase_weight=self.options.erase_weight,
            retain_weight=self.retain_weight(data),
            regularisation=self.options.regularisation,
            method=self.title,
        )
