"""MACE: refine what surrounds a concept, turn attention off it with a small LoRA each, fuse them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.progress import Tick, progress
from oubliette.core.validation import MAX_SEED, StrictModel
from oubliette.erase.diffusion.closed import cholesky, edited
from oubliette.erase.diffusion.rank_one import Subject, importance, masks_of, suppress
from oubliette.erase.edit import Edit, Factors
from oubliette.erase.request import ErasureRequest, PromptPair
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData

_AT_ONCE = 64  # prompts whose rows are held together
_SEED_STRIDE = 1_000_003


class Phrase(NamedTuple):
    """Where a target prompt and its anchor prompt differ, in tokens: [begin, end) and [begin, anchor_end)."""

    begin: int
    end: int
    anchor_end: int


def phrase(target: Sequence[int], anchor: Sequence[int]) -> Phrase:
    """The tokens of `target` between the longest beginning and the longest ending that both share."""
    shortest = min(len(target), len(anchor))
    begin = 0
    while begin < shortest and target[begin] == anchor[begin]:
        begin += 1
    same = 0
    while same < shortest - begin and target[-1 - same] == anchor[-1 - same]:
        same += 1
    return Phrase(begin, len(target) - same, len(anchor) - same)


@dataclass
class Sums:
    """Sums over the prompts' token rows, (d, d) in fp64: all that the closed forms need of them.

    `gram` is sum e e^T over the co-occurring tokens, `cross` sum (e* - e) e^T with e* the same token beside
    the anchor; `own` holds, for each concept, sum e e^T over the tokens from its phrase to the end; `kept` is
    sum p p^T over the retained prompts.
    """

    gram: Tensor
    cross: Tensor
    own: list[Tensor]
    kept: Tensor

    @classmethod
    def empty(cls, width: int, concepts: int, device: torch.device) -> Sums:
        """All zero."""
        zero = torch.zeros(width, width, dtype=torch.float64, device=device)
        return cls(zero.clone(), zero.clone(), [zero.clone() for _ in range(concepts)], zero.clone())

    def add(self, concept: int, target: Tensor, anchor: Tensor, where: Phrase) -> None:
        """Count one pair's embeddings (L, d); after the phrase the longer side is cut on the right."""
        after = min(len(target) - where.end, len(anchor) - where.anchor_end)
        rows = torch.cat([target[: where.begin], target[where.end : where.end + after]]).double()
        goals = torch.cat(
            [anchor[: where.begin], anchor[where.anchor_end : where.anchor_end + after]]
        ).double()
        self.gram += rows.T @ rows
        self.cross += (goals - rows).T @ rows
        rest = target[where.begin :].double()
        self.own[concept] += rest.T @ rest


def refinement(sums: Sums, *, regularisation: float, retain_weight: float) -> Tensor:
    """The factor R (d, d) with which W becomes W + W R: co-occurring tokens answer as beside the anchor.

    It minimises sum ||W' e - W e*||^2 + retain_weight sum ||W' p - W p||^2 + regularisation ||W' - W||^2
    (MACE, arXiv 2403.06135, stage 1).
    """
    q = sums.gram + retain_weight * sums.kept + regularisation * torch.eye(len(sums.gram)).to(sums.gram)
    return torch.cholesky_solve(sums.cross.T.contiguous(), cholesky(q, "MACE", "regularisation")).T


class Fusion:
    """All concepts' updates in one weight (MACE, stage 3), factored once for all layers.

    It minimises over W' sum_i sum_j ||W' e_ij - (W_1 + dW_i) e_ij||^2 + retain_weight sum ||W' p - W p||^2 +
    regularisation ||W' - W_1||^2, with W_1 = W (I + R) the refined and W the original weight.
    """

    def __init__(self, sums: Sums, refined: Tensor, *, regularisation: float, retain_weight: float) -> None:
        q = retain_weight * sums.kept + regularisation * torch.eye(len(refined)).to(refined)
        for own in sums.own:
            q += own
        factor = cholesky(q, "MACE", "regularisation")
        self._pulled = [torch.cholesky_solve(own, factor).T for own in sums.own]  # G_i Q^-1
        back = retain_weight * torch.cholesky_solve(sums.kept, factor).T
        self._refined = refined - refined @ back

    def edit(self, name: str, weight: Tensor, updates: Sequence[Factors]) -> Edit:
        """W' - W for a weight (out, d) and each concept's (up, down), or no updates at all."""
        delta = weight @ self._refined.to(weight)
        for (up, down), pulled in zip(updates, self._pulled, strict=bool(updates)):
            delta += up.to(weight) @ (down.to(weight) @ pulled.to(weight))
        return Edit(name, delta)


class MACE:
    """Mass concept erasure in three stages: refine, suppress, fuse.

    (1) In closed form, the tokens beside a concept answer as if its anchor stood there. (2) For each concept
    a rank-one LoRA is trained until the concept's tokens get no attention where pictures show it; the masks
    come from the attention of the original model itself, where the paper has a segmentation network. (3) In
    closed form, all LoRAs become one edit. Paper: Lu et al., CVPR 2024, arXiv 2403.06135.
    """

    name: ClassVar[str] = "mace"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "solved"
    paper: ClassVar[str] = "Lu et al., MACE: Mass Concept Erasure in Diffusion Models, CVPR 2024 (2403.06135)"

    class Options(StrictModel):
        """MACE's options; the defaults are the published ones for objects."""

        regularisation: float = Field(
            default=1e3, gt=0, description="how much the weights resist, in both closed forms"
        )
        refine_retain_weight: float = Field(
            default=0.0, ge=0, description="weight of each retained token in the refinement"
        )
        fuse_retain_weight: float = Field(
            default=0.0, ge=0, description="weight of each retained token in the fusion"
        )
        rank: int = Field(default=1, ge=1, description="rank of each concept's update")
        steps: int = Field(default=50, ge=0, description="updates of each concept's LoRA; 0 refines alone")
        batch: int = Field(default=1, ge=1, description="pictures in an update")
        learning_rate: float = Field(default=1e-5, gt=0, description="Adam's")
        norm: Literal["squared", "absolute"] = Field(
            default="squared", description="what of the attention is minimised"
        )
        timesteps: Literal["importance", "uniform"] = Field(
            default="importance",
            description="how t is drawn: mostly between 200 and 400 of 1000, or anywhere",
        )
        mask_share: float = Field(
            default=0.5,
            ge=0,
            le=1,
            description="a pixel shows the concept from this share of the greatest attention on; 0 all do",
        )
        mask_draws: int = Field(default=4, ge=1, description="noised copies that a mask is averaged over")

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        self.options = options
        self.request = request

    def solve(self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]) -> Iterator[Edit]:
        """Yield one edit for each text-facing weight in `scope`; other tensors in the scope stay as they are.

        Raises UserError as UCE does, and for a concept none of whose pairs differ.
        """
        options = self.options
        width = model.encode_text([""]).hidden.shape[-1]
        names = [name for name, _ in edited(model, scope, width, "MACE")]
        sums = self.sums(model, data, width)
        refined = refinement(
            sums, regularisation=options.regularisation, retain_weight=options.refine_retain_weight
        )
        updates = self.updates(model, data, names, refined) if options.steps else []
        fusion = Fusion(
            sums,
            refined,
            regularisation=options.regularisation,
            retain_weight=options.fuse_retain_weight,
        )
        for name, weight in edited(model, scope, width, "MACE"):
            yield fusion.edit(name, weight, [own[name] for own in updates])

    def sums(self, model: DiffusionBackend, data: DiffusionData, width: int) -> Sums:
        """What both closed forms need of the prompts, some of them encoded at a time."""
        sums = Sums.empty(width, len(self.request.concepts), model.device)
        for first in range(0, len(data.pairs), _AT_ONCE):
            pairs = data.pairs[first : first + _AT_ONCE]
            targets = model.encode_text([pair.target for pair in pairs]).hidden
            anchors = model.encode_text([pair.anchor for pair in pairs]).hidden
            for pair, target, anchor, where in zip(
                pairs, targets, anchors, phrases(model, pairs), strict=True
            ):
                sums.add(pair.concept, target, anchor, where)
        if self.options.refine_retain_weight or self.options.fuse_retain_weight:
            prompts = [*data.retain_prompts(), *data.erased_before()]
            for first in range(0, len(prompts), _AT_ONCE):
                rows = model.encode_text(prompts[first : first + _AT_ONCE]).hidden.flatten(0, 1).double()
                sums.kept += rows.T @ rows
        return sums

    def updates(
        self, model: DiffusionBackend, data: DiffusionData, names: Sequence[str], refined: Tensor
    ) -> list[dict[str, Factors]]:
        """Each concept's update of each named weight, trained on top of the refined weights."""
        options = self.options
        subjects = self.subjects(model, data)
        weights = (
            importance(model.train_timesteps)
            if options.timesteps == "importance"
            else torch.ones(model.train_timesteps)
        )
        rngs = [
            torch.Generator().manual_seed((data.seed * _SEED_STRIDE + index) % (MAX_SEED + 1))
            for index in range(len(subjects))
        ]
        masks = [
            masks_of(
                model,
                subject,
                share=options.mask_share,
                draws=options.mask_draws,
                weights=weights,
                rng=rng,
            )
            for subject, rng in zip(subjects, rngs, strict=True)
        ]
        tensors = model.tensors()
        held = Weights({name: tensors[name] for name in names})
        moves = [weight @ refined.to(weight) for _, weight in edited(model, names, len(refined), "MACE")]
        found = []
        with (
            held.perturbed(moves),
            progress(
                "suppressing attention", len(subjects) * options.steps, enabled=data.show_progress
            ) as tick,
        ):
            for index, subject in enumerate(subjects):
                found.append(
                    suppress(
                        model,
                        names,
                        subject,
                        masks[index],
                        rank=options.rank,
                        steps=options.steps,
                        batch=options.batch,
                        learning_rate=options.learning_rate,
                        norm=options.norm,
                        weights=weights,
                        rng=rngs[index],
                        tick=_after(tick, index * options.steps),
                    )
                )
        return found

    def subjects(self, model: DiffusionBackend, data: DiffusionData) -> list[Subject]:
        """Each concept's pictures, drawn by the base, with its phrase's tokens in their prompts.

        A prompt whose phrase lies beyond what the text encoder reads is left out.
        """
        wheres = phrases(model, data.items)
        latents = data.target_latents()
        found = []
        for index, concept in enumerate(self.request.concepts):
            own = [
                number
                for number, (item, where) in enumerate(zip(data.items, wheres, strict=True))
                if item.concept == index and where.begin < where.end
            ]
            if not own:
                raise UserError(
                    f"MACE: no target prompt of '{concept.name}' differs from its anchor prompt in what the "
                    "text encoder reads; give pairs that differ in the concept"
                )
            tokens = [range(wheres[number].begin, wheres[number].end) for number in own]
            found.append(Subject(latents[own], [data.items[number].target for number in own], tokens))
        return found


def _after(tick: Tick, before: int) -> Tick:
    return lambda done, note: tick(before + done, note)


def phrases(model: DiffusionBackend, pairs: Sequence[PromptPair]) -> list[Phrase]:
    """Where each pair's prompts differ, in the tokens of the model's first tokenizer."""
    tokenizer = model.tokenizers[0]

    def ids(prompts: list[str]) -> list[list[int]]:
        return list(tokenizer(prompts, truncation=True, max_length=tokenizer.model_max_length).input_ids)

    targets, anchors = ids([pair.target for pair in pairs]), ids([pair.anchor for pair in pairs])
    return [phrase(target, anchor) for target, anchor in zip(targets, anchors, strict=True)]
