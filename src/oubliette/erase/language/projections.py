"""Directions that are taken out of what blocks put out: projections that go with a model and come off it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from oubliette.backends.hooks import changed
from oubliette.core.errors import UserError

__all__ = ["Projections", "orthonormal"]

_KEPT, _LATEST = "kept", "latest"


class Projections:
    """h -> h - h Q^T Q for every token of what some blocks put out, the rows of Q (k, d) orthonormal.

    Of each block there are the directions of earlier requests ("kept", orthonormal, never trained again) and
    those of the latest ("latest", parameters, brought off the kept ones and orthonormalised whenever they are
    used, with a graph). Both in fp32; the projection is taken in fp32 or wider and cast back to the states'
    dtype.
    """

    name: ClassVar[str] = "mrp"
    grows: ClassVar[bool] = True

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        self.blocks = sorted({int(name.partition(".")[0]) for name in tensors})

    @classmethod
    def grown(cls, earlier: Projections | None, start: Mapping[int, Tensor]) -> Projections:
        """The directions of `earlier`, kept from now on, and untrained ones (k, d) behind some blocks."""
        tensors: dict[str, Tensor] = {}
        for block in () if earlier is None else earlier.blocks:
            assert earlier is not None
            tensors[f"{block}.{_KEPT}"] = earlier.basis(block).detach().clone()
        for block, rows in start.items():
            tensors[f"{block}.{_LATEST}"] = nn.Parameter(rows.float())
        return cls(tensors)

    @classmethod
    def build(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Projections:
        """What was saved; UserError for other tensors, shapes that do not fit, and kept rows that are not
        orthonormal.
        """
        if settings or not tensors:
            raise UserError(
                f"attachment '{cls.name}': expected its directions and no settings, found "
                f"{len(tensors)} tensors and {sorted(settings)}"
            )
        for name, tensor in tensors.items():
            number, _, part = name.partition(".")
            if not number.isdigit() or part not in (_KEPT, _LATEST) or tensor.ndim != 2:
                raise UserError(
                    f"attachment '{cls.name}': expected directions (k, width) of a block as '3.{_KEPT}' or "
                    f"'3.{_LATEST}', found '{name}' {tuple(tensor.shape)}"
                )
        made = cls({name: tensor.float() for name, tensor in sorted(tensors.items())})
        for block in made.blocks:
            widths = {part.shape[1] for part in made._parts(block)}
            rows = made.basis(block) if len(widths) == 1 else None
            if rows is None or not torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-4):
                raise UserError(
                    f"attachment '{cls.name}': the directions of block {block} are not orthonormal"
                )
        return made

    def settings(self) -> dict[str, Any]:
        """None: it is its tensors."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """The directions of each block; the latest as parameters, where they were not read from a file."""
        return dict(self._tensors)

    def basis(self, block: int) -> Tensor:
        """The orthonormal directions (k, d) that are taken out behind a block, in fp32, the earlier ones
        first and as they were.
        """
        kept, latest = self._parts(block)
        return torch.cat([kept, orthonormal(latest, kept)])

    def project(self, block: int, states: Tensor) -> Tensor:
        """States (..., d) without the block's directions."""
        with torch.autocast(states.device.type, enabled=False):
            wide = states.to(torch.promote_types(states.dtype, torch.float32))
            basis = self.basis(block).to(wide)  # on another device where the model lies on several
            return (wide - (wide @ basis.T) @ basis).to(states.dtype)

    @contextmanager
    def install(self, model: Any) -> Iterator[None]:
        """The projections behind the model's blocks, while open; UserError for a model of another width, or
        with fewer blocks.
        """
        own = int(model.model.config.get_text_config().hidden_size)
        found = {part.shape[1] for block in self.blocks for part in self._parts(block)}
        if found - {own}:
            raise UserError(
                f"attachment '{self.name}' was made for blocks of width {max(found)}; {model.source} has "
                f"those of {own}"
            )
        for tensor in self._tensors.values():
            tensor.data = tensor.data.to(model.device)
        with changed(model.blocks(), {block: partial(self.project, block) for block in self.blocks}):
            yield

    def _parts(self, block: int) -> tuple[Tensor, Tensor]:
        found = [self._tensors.get(f"{block}.{part}") for part in (_KEPT, _LATEST)]
        known = next(part for part in found if part is not None)
        kept, latest = (known.detach()[:0] if part is None else part for part in found)
        return kept, latest


def orthonormal(rows: Tensor, kept: Tensor) -> Tensor:
    """Orthonormal rows (k, d) that, with `kept` (m, d; orthonormal), span what `rows` (k, d) and `kept` do.

    By a reduced QR of what lies off the kept rows, which are taken off twice: once leaves of a row that is
    nearly one of theirs mostly rounding.
    """
    for _ in range(2):
        rows = rows - (rows @ kept.T) @ kept
    return torch.linalg.qr(rows.T).Q.T
