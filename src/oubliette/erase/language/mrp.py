"""MRP: directions that the forget rows take and the retain rows do not are projected out behind blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.hooks import read
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel, validated
from oubliette.erase import METHODS
from oubliette.erase.language.projections import Projections
from oubliette.train.objective import Objective

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData, TokenSet
    from oubliette.erase.request import ErasureRequest

__all__ = ["MRP", "off_retain", "second_moments"]

_BATCH = 8  # rows a pass when states are looked at
_NOTHING = 1e-10  # of the forget states' squares: what rounding alone leaves


class MRP:
    """h -> h - h Q^T Q behind a few blocks: Q alone is trained, on a language loss, and no weight moves.

    Q starts as the leading principal directions (uncentred, padding aside) of the forget rows' states off the
    `retain_rank` leading ones of the retain rows', both taken where the projection acts. It is trained on
    `loss`, any trained language method by name: "graddiff" is the published -nll(forget) + alpha nll(retain),
    "npo" and others are bounded. A further request keeps the directions of the earlier ones and adds its own:
    the model that its loss compares with is that of the request before. Paper: Wu et al., 2025 (2508.15449);
    the form is that of its code. Ours: that code draws the start from retain states off all forget states,
    taken a block too early and with padding, and has it begin with one arbitrary direction.
    """

    name: ClassVar[str] = "mrp"
    backend: ClassVar[str] = "language"
    solution: ClassVar[str] = "attached"
    trains: ClassVar[bool] = True
    paper: ClassVar[str] = "Wu et al., Metamorphosis Representation Projection, 2025 (2508.15449)"

    class Options(StrictModel):
        """MRP's options; the defaults are those of the released code, where it has them."""

        directions: int = Field(default=2, ge=1, description="taken out behind a block, of each request")
        blocks: int | list[int] = Field(
            default=2, description="how many, drawn from all but the last with the run's seed; or which"
        )
        retain_rank: int | None = Field(
            default=None, ge=0, description="directions of the retain rows left alone; an eighth of the width"
        )
        loss: str | dict[str, Any] = Field(
            default="graddiff", description="the language method whose losses train it, with its options"
        )

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        self.options = options
        name, own = METHODS.parse(options.loss)
        method = METHODS.get(name)
        if (method.backend, method.solution) != ("language", "trained"):
            raise UserError(
                f"method 'mrp': its loss is that of a trained language method, and '{name}' is "
                f"{method.solution}, for {method.backend} models; npo is one"
            )
        self.objective: Objective = method(
            validated(method.Options, own, f"method 'mrp': loss '{name}'"), request
        )

    def attachment(self, model: LanguageBackend, data: LanguageData, scope: Sequence[str]) -> Projections:
        """What is attached already, grown by untrained directions; UserError for a block that is not there,
        and where the forget states have too few directions of their own.
        """
        held = model.attachment
        blocks = self._blocks(len(model.blocks()), model.source, data.seed)
        forget = second_moments(model, data.forget, blocks)
        retain = {} if data.retain is None else second_moments(model, data.retain, blocks)
        start = {block: self._start(block, forget[block], retain.get(block)) for block in blocks}
        return Projections.grown(held if isinstance(held, Projections) else None, start)

    def _start(self, block: int, forget: Tensor, retain: Tensor | None) -> Tensor:
        wanted, rank = self.options.directions, self.options.retain_rank
        rank = len(forget) // 8 if rank is None else rank
        found = off_retain(forget, retain, rank, wanted)
        if len(found) < wanted:
            raise UserError(
                f"method 'mrp': behind block {block} the forget rows have {len(found)} directions beside the "
                f"{rank} of the retain rows and what was taken out before, and {wanted} are wanted; give "
                "fewer (method.directions), a lower method.retain_rank or more rows"
            )
        return found

    def _blocks(self, count: int, source: str, seed: int) -> list[int]:
        asked = self.options.blocks
        if isinstance(asked, int):
            if not 0 < asked < count:
                raise UserError(
                    f"method 'mrp': {asked} blocks are to be drawn, and {source} has {count}, of which the "
                    f"last is never drawn: give 1 to {count - 1}, or a list"
                )
            return sorted(
                torch.randperm(count - 1, generator=torch.Generator().manual_seed(seed))[:asked].tolist()
            )
        if not asked or len(set(asked)) != len(asked) or not all(0 <= block < count for block in asked):
            raise UserError(
                f"method 'mrp': blocks is {asked}, and {source} has blocks 0 to {count - 1}; name some, "
                "each once"
            )
        return sorted(asked)


@torch.no_grad()
def second_moments(model: LanguageBackend, rows: TokenSet, blocks: Sequence[int]) -> Mapping[int, Tensor]:
    """The sum of h^T h over the rows' tokens, padding aside, of each block's output h: (d, d) in fp64."""
    found: dict[int, Tensor] = {}
    for some in torch.arange(len(rows)).split(_BATCH):
        batch = rows.rows.index(some)
        with read(model.blocks(), blocks) as seen:
            model.predict(batch)
        for block in blocks:
            states = seen[block][batch.attention_mask.bool().to(seen[block].device)].double()
            found[block] = found.get(block, 0) + states.T @ states
    return found


def off_retain(forget: Tensor, retain: Tensor | None, rank: int, count: int) -> Tensor:
    """The leading principal directions (k, d) of forget states off the `rank` leading ones of retain states.

    Given by their second moments (d, d). Fewer than `count` where there are no more; in the moments' dtype.
    """
    if retain is not None and rank:
        kept = torch.linalg.eigh(retain).eigenvectors[:, -rank:]
        off = torch.eye(len(forget)).to(forget) - kept @ kept.T
    else:
        off = torch.eye(len(forget)).to(forget)
    values, vectors = torch.linalg.eigh(off @ forget @ off)
    real = int((values[-count:] > _NOTHING * forget.trace()).sum())
    return vectors[:, len(vectors) - real :].T.flip(0)
