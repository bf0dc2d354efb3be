"""UCE: unified concept editing of the text-facing projections in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.erase.edit import Edit
from oubliette.erase.request import ErasureRequest
from oubliette.errors import UserError
from oubliette.validation import StrictModel

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend, TextEmbedding
    from oubliette.erase.prepare import DiffusionData

TokenMode = Literal["last", "last_to_end", "all"]

# The prompt expansions of the released code, one list for styles and one for everything else.
EXPANSIONS: dict[str, tuple[str, ...]] = {
    "style": ("painting by {}", "art by {}", "artwork by {}", "picture by {}", "style of {}"),
    "other": ("image of {}", "photo of {}", "portrait of {}", "picture of {}", "painting of {}"),
}


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


def right_factor(
    rows: Tensor,
    goals: Tensor,
    kept: Tensor,
    *,
    erase_weight: float = 1.0,
    retain_weight: float = 1.0,
    regularisation: float = 0.5,
) -> Tensor:
    """The matrix R (d, d) with which every projection W becomes W + W R, in fp64.

    R = a sum_i (c*_i - c_i) c_i^T Q^-1 with Q = lam I + a sum_i c_i c_i^T + b sum_j p_j p_j^T, which
    minimises a sum ||W' c - W c*||^2 + b sum ||W' p - W p||^2 + lam ||W' - W||_F^2 (UCE, arXiv 2308.14761,
    in delta form). Q does not depend on W: one Cholesky factor serves every layer of the same text
    width. No bias enters, so layers with one are served too. `rows` and `goals` are (n, d), `kept` (m, d), m
    may be 0. Raises UserError if Q is singular, which only a regularisation of 0 can cause.
    """
    width = rows.shape[1]
    q = regularisation * torch.eye(width, dtype=torch.float64, device=rows.device)
    q += erase_weight * rows.T @ rows + retain_weight * kept.T @ kept
    factor, failed = torch.linalg.cholesky_ex(q)
    if int(failed):
        raise UserError(
            f"UCE: the system is singular with regularisation {regularisation:g}; use a positive value (0.5)"
        )
    solved = torch.cholesky_solve(rows.T.contiguous(), factor)  # Q^-1 C^T, (d, n)
    return erase_weight * (goals - rows).T @ solved.T


class UCE:
    """Maps each concept's text embeddings to its anchor's, in all key and value projections at once.

    Solved, not trained: seconds on a CPU, no pictures. Several concepts are solved in one system, so their
    order is of no account. Paper: Gandikota et al., WACV 2024, arXiv 2308.14761.
    """

    name: ClassVar[str] = "uce"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "solved"
    paper: ClassVar[str] = (
        "Gandikota et al., Unified Concept Editing in Diffusion Models, WACV 2024 (2308.14761)"
    )

    class Options(StrictModel):
        """UCE's options; the defaults are the released code's: a = b = 1, lambda = 0.5, last token."""

        erase_weight: float = Field(default=1.0, gt=0, description="a: weight of each erased embedding")
        retain_weight: float = Field(default=1.0, ge=0, description="b: weight of each retained embedding")
        regularisation: float = Field(default=0.5, gt=0, description="lambda: how much the weights resist")
        token_mode: TokenMode = Field(
            default="last", description="which token rows are mapped: last, last_to_end or all"
        )
        prompts: Literal["name", "expanded", "bank"] = Field(
            default="name",
            description="the bare name; with the released code's expansions; or the bank's prompt pairs",
        )
        synonyms: bool = Field(default=True, description="map each concept's synonyms to its anchor too")
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
        if self.request.pairs or self.options.prompts == "bank":
            found = [(pair.target, pair.anchor) for pair in data.pairs]
        else:
            found = []
        for concept in self.request.concepts:
            names = [concept.name, *(concept.synonyms if self.options.synonyms else ())]
            found += [(name, concept.anchor) for name in names]
            if self.options.prompts == "expanded":
                shapes = EXPANSIONS["style" if concept.kind == "style" else "other"]
                found += [
                    (shape.format(name), shape.format(concept.anchor)) for name in names for shape in shapes
                ]
        return list(dict.fromkeys(found))

    def kept(self, model: DiffusionBackend, data: DiffusionData) -> Tensor:
        """The rows (m, d) that must not move: the last subject tokens, or all positions in the other token
        modes.
        """
        prompts = list(self.request.retain)
        if not prompts and self.options.retain == "bank":
            prompts = list(data.retain_prompts())
        if self.options.retain_empty and "" not in prompts:
            prompts.append("")
        if not prompts:
            return torch.zeros(
                0, model.encode_text([""]).hidden.shape[-1], dtype=torch.float64, device=model.device
            )
        text = model.encode_text(prompts)
        mode: TokenMode = "last" if self.options.token_mode == "last" else "all"
        return token_rows(text, text, mode)[0]

    @torch.no_grad()
    def solve(self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]) -> Iterator[Edit]:
        """Yield one edit for each text-facing weight in `scope`; other tensors in the scope stay as they are.

        Raises UserError if the scope holds no text-facing weight, or one that does not read this text
        encoder's width.
        """
        facing = set(model.text_facing())
        names = [name for name in scope if name in facing]
        if not names:
            raise UserError(
                "UCE edits the projections that read the text, and the scope holds none of them; "
                "use scope xattn-kv"
            )
        pairs = self.pairs(data)
        rows, goals = token_rows(
            model.encode_text([target for target, _ in pairs]),
            model.encode_text([anchor for _, anchor in pairs]),
            self.options.token_mode,
        )
        factor = right_factor(
            rows,
            goals,
            self.kept(model, data),
            erase_weight=self.options.erase_weight,
            retain_weight=self.options.retain_weight,
            regularisation=self.options.regularisation,
        )
        tensors = model.tensors()
        for name in names:
            weight = tensors[name].detach().double()
            if weight.shape[-1] != factor.shape[0]:
                raise UserError(
                    f"UCE: '{name}' reads vectors of width {weight.shape[-1]}, "
                    f"the text encoder gives {factor.shape[0]}"
                )
            yield Edit(name, weight @ factor.to(weight.device))
