"""SPEED: the edit is confined to the null space of what is to be kept."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.erase.diffusion.closed import (
    MappingOptions,
    RightFactor,
    TokenMode,
    cholesky,
    edited,
    mapped_prompts,
    mapped_rows,
    right_factor,
    token_rows,
    uce_factor,
)
from oubliette.erase.edit import Edit
from oubliette.erase.request import ErasureRequest

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData

_ROUNDING = 1e-10  # relative: what is smaller than this share of the largest is zero
_ITERATIONS = 100


def least_direction(weight: Tensor) -> Tensor:
    """The right singular vector (d,) of W's least singular value, of min(out, d); its largest entry is
    positive.
    """
    out, width = weight.shape
    if out < width:  # the Gram matrix of the shorter side: what W maps to zero anyway is no singular vector
        values, vectors = torch.linalg.eigh(weight @ weight.T)
        found = weight.T @ vectors[:, 0] if float(values[0]) > 0 else vectors.new_zeros(width)
        found = found / found.norm().clamp(min=torch.finfo(found.dtype).tiny)
    else:
        found = torch.linalg.eigh(weight.T @ weight)[1][:, 0]
    return found * torch.sign(found[found.abs().argmax()])


def influenced(shift: Tensor) -> Tensor:
    """Which rows shift at least as much as the mean of all: boolean, of the shape of `shift`; never none."""
    return shift >= shift.mean() * (1 - _ROUNDING)


def retained_covariance(
    weight: Tensor,
    kept: Tensor,
    erasure: RightFactor,
    *,
    filtered: bool,
    copies: int,
    noise: float,
    rng: torch.Generator,
) -> Tensor:
    """R R^T / n (d, d) over the embeddings that this layer's edit has to spare.

    Influence-based filtering: of `kept` (m, d) those whose output the unconstrained edit W `erasure` shifts
    by more than the mean, ||dW p||^2. Directed augmentation: `copies` of each with Gaussian noise along the
    direction that W sees least, of which again those are taken that shift more than the copies' mean. The
    copies p + s u are never formed: sums over s do. SPEED, arXiv 2503.07392.
    """
    left = weight @ erasure.left
    moved = kept @ erasure.right.T @ left.T  # dW p, one row for each
    if filtered:
        chosen = influenced(moved.square().sum(dim=1))
        kept, moved = kept[chosen], moved[chosen]
    if not copies:
        return kept.T @ kept / len(kept)
    direction = least_direction(weight)
    scale = noise * torch.randn(len(kept), copies, generator=rng, dtype=torch.float64).to(kept)
    if filtered:
        along = left @ (erasure.right @ direction)
        shift = moved.square().sum(dim=1, keepdim=True) + 2 * scale * (moved @ along)[:, None]
        taken = influenced(shift + scale.square() * along.square().sum()).to(kept)
    else:
        taken = torch.ones_like(scale)
    count = 1 + taken.sum(dim=1)
    cross = torch.outer(kept.T @ (taken * scale).sum(dim=1), direction)
    own = (taken * scale.square()).sum() * torch.outer(direction, direction)
    return ((kept * count[:, None]).T @ kept + cross + cross.T + own) / count.sum()


def null_basis(covariance: Tensor, threshold: float) -> Tensor:
    """An orthonormal basis (d, q) of the eigenvectors whose eigenvalue is below `threshold`."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors[:, values < threshold]


def constrained_factor(
    rows: Tensor, goals: Tensor, basis: Tensor, fixed: Tensor, *, regularisation: float, slack: float
) -> RightFactor:
    """The factor R of the edit X = W R that maps `rows` (n, d) to `goals` and stays within `basis`.

    X minimises sum ||(W + X) c - W c*||^2 + rho ||X||^2 over X = X P, P = B B^T, subject to X k = 0 for the
    rows k of `fixed` (m, d). In the coordinates of B (d, q) it is SPEED's
    W (A - T) P [I - M K (K^T P M K + l I)^-1 K^T P] M with M = (T P + rho I)^-1, made symmetric. With
    `slack` l = 0 the constraints hold to rounding, and those that P satisfies by itself are dropped.
    """
    source, held = basis.T @ rows.T, basis.T @ fixed.T  # (q, n), (q, m)
    if slack == 0 and held.numel():
        spans, sizes, _ = torch.linalg.svd(held, full_matrices=False)
        held = spans[:, sizes > _ROUNDING * fixed.norm(dim=1).max()]
    system = source @ source.T + regularisation * torch.eye(len(source)).to(source)
    factor = cholesky(system, "SPEED", "regularisation")
    pulled = torch.cholesky_solve(source, factor)
    if held.shape[1]:
        answer = torch.cholesky_solve(held, factor)
        inner = held.T @ answer + slack * torch.eye(held.shape[1]).to(held)
        pulled = pulled - answer @ torch.linalg.solve(inner, held.T @ pulled)
    return uce_factor(rows, goals, (basis @ pulled).T)


def centres(points: Tensor, count: int) -> Tensor:
    """At most `count` centres (k, d) of the `points` (n, d) by k-means; no chance in it.

    It starts at the point nearest the mean and then, each time, at the point farthest from all before;
    points that coincide give fewer centres.
    """
    first = (points - points.mean(dim=0)).square().sum(dim=1).argmin()
    chosen = points[first][None]
    while len(chosen) < min(count, len(points)):
        apart = torch.cdist(points, chosen).amin(dim=1)
        if float(apart.max()) <= _ROUNDING * float(points.norm(dim=1).max()):
            break
        chosen = torch.cat([chosen, points[apart.argmax()][None]])
    for _ in range(_ITERATIONS):
        nearest = torch.cdist(points, chosen).argmin(dim=1)
        groups = [points[nearest == index] for index in range(len(chosen))]
        moved = torch.stack(
            [group.mean(dim=0) if len(group) else old for group, old in zip(groups, chosen, strict=True)]
        )
        if torch.equal(moved, chosen):
            break
        chosen = moved
    return chosen


class SPEED:
    """Maps each concept's embeddings to its anchor's within the null space of the retained ones.

    Retained embeddings keep their output to within the threshold, those spanned by the larger eigenvectors
    to rounding; the start token and the centres of the empty prompt's tokens keep theirs exactly. The scope
    decides which projections are edited: published are the values alone, as the preset has it. The null space
    is found for each layer, since the edit's influence and the direction of the noise are the layer's own.
    Paper: SPEED, ICLR 2026, arXiv 2503.07392.
    """

    name: ClassVar[str] = "speed"
    title: ClassVar[str] = "SPEED"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "solved"
    paper: ClassVar[str] = (
        "SPEED: Scalable, Precise, and Efficient Concept Erasure for Diffusion Models, ICLR 2026 (2503.07392)"
    )

    class Options(MappingOptions):
        """SPEED's options; the defaults are the released code's for few concepts: rho = 1, threshold 0.1."""

        regularisation: float = Field(default=1.0, gt=0, description="rho: how much the weights resist")
        threshold: float = Field(
            default=0.1,
            gt=0,
            description="eigenvalues of the retained covariance below it are free (1e-4 for many concepts)",
        )
        filtered: bool = Field(
            default=True, description="retain only what the edit would shift by more than the mean"
        )
        copies: int = Field(default=10, ge=0, description="noisy copies of each retained embedding")
        noise: float = Field(default=1.0, ge=0, description="standard deviation of their noise")
        fixed_centres: int = Field(
            default=3, ge=0, description="k-means centres of the empty prompt's tokens that stay as they are"
        )
        fixed_slack: float = Field(
            default=0.0, ge=0, description="l: how far the fixed rows may move; 0 exact"
        )

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        self.options = options
        self.request = request

    def kept(self, model: DiffusionBackend, data: DiffusionData) -> Tensor:
        """The retained rows (m, d): the last subject tokens, or all positions in the other token modes."""
        text = model.encode_text(list(dict.fromkeys([*data.retain_prompts(), *data.erased_before()])))
        mode: TokenMode = "last" if self.options.token_mode == "last" else "all"
        return token_rows(text, text, mode)[0]

    def fixed(self, model: DiffusionBackend) -> Tensor:
        """The rows (m, d) whose output must not change: the start token's, and the empty prompt's centres."""
        empty = model.encode_text([""]).hidden[0].double()
        if not self.options.fixed_centres:
            return empty[:1]
        return torch.cat([empty[:1], centres(empty[1:], self.options.fixed_centres)])

    @torch.no_grad()
    def solve(self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]) -> Iterator[Edit]:
        """Yield one edit for each text-facing weight in `scope`; other tensors in the scope stay as they are.

        Raises UserError as UCE does, and where the retained prompts leave no direction free.
        """
        options = self.options
        pairs = mapped_prompts(options, self.request, data)
        rows, goals = mapped_rows(model, pairs, options.token_mode)
        width = rows.shape[1]
        kept, fixed = self.kept(model, data), self.fixed(model)
        erasure = right_factor(
            rows, goals, kept[:0], regularisation=options.regularisation, method=self.title
        )
        for name, weight in edited(model, scope, width, self.title):
            covariance = retained_covariance(
                weight,
                kept,
                erasure,
                filtered=options.filtered,
                copies=options.copies,
                noise=options.noise,
                rng=torch.Generator().manual_seed(zlib.crc32(f"{data.seed} {name}".encode())),
            )
            basis = null_basis(covariance, options.threshold)
            if not basis.shape[1]:
                raise UserError(
                    f"SPEED: the retained prompts leave no direction of '{name}' free below threshold "
                    f"{options.threshold:g}; raise method.threshold above "
                    f"{float(torch.linalg.eigvalsh(covariance)[0]):.3g} or retain fewer prompts"
                )
            factor = constrained_factor(
                rows, goals, basis, fixed, regularisation=options.regularisation, slack=options.fixed_slack
            )
            yield factor.edit(name, weight)
