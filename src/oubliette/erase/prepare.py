"""What the diffusion erasers are given to work on: prompt pairs, anchor pictures as latents, retain
prompts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.validation import MAX_SEED
from oubliette.data.text import InputWarning
from oubliette.data.words import fill, pattern, slotted
from oubliette.erase.latents import LatentStore
from oubliette.erase.request import ErasureRequest, PromptPair
from oubliette.train.cost import Cost
from oubliette.train.gradients import step_rng
from oubliette.train.tasks.denoising import Denoising
from oubliette.world.world import world_of

if TYPE_CHECKING:
    import numpy as np

    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.data.concept import Concept
    from oubliette.data.pictures import PictureSet
    from oubliette.data.prompts import PromptBank

_SEED_STRIDE = 1_000_003  # keeps the pictures of neighbouring seeds apart
_RETAIN_OFFSET = 500_000
_TARGET_OFFSET = 250_000
_ENCODED_AT_ONCE = 16
_MEASURED = 16  # pictures that the forget loss is read on
_SPARE = 4  # times the pairs needed are asked for: those that name another concept are left out


class DiffusionData:
    """Prompt pairs and pictures of one erasure; pictures are drawn when first asked for.

    `pairs` are the (target, anchor) prompts of all concepts. `items` are the training items, one a picture:
    item i belongs to concept i mod n, and takes that concept's pairs in turn. Deterministic in `seed`.
    """

    def __init__(
        self,
        model: DiffusionBackend,
        request: ErasureRequest,
        *,
        seed: int,
        cache: Path | None = None,
        show_progress: bool = True,
    ) -> None:
        self.model, self.request, self.seed = model, request, seed
        self._store = LatentStore(cache, show_progress=show_progress)
        self.show_progress = show_progress
        self._brought = None if request.pictures is None else _read_pictures(model, request.pictures)
        self._captions = () if self._brought is None else self._brought.captions
        self._anchor: Tensor | None = None
        self.pairs = request.pairs or self._bank_pairs()
        self.items = self._items()
        self._by_concept = [
            [index for index, item in enumerate(self.items) if item.concept == concept]
            for concept in range(len(request.concepts))
        ]
        self._retained: tuple[list[str], Tensor] | None = None
        self._target: Tensor | None = None
        self._task: Denoising | None = None
        self._retain: tuple[str, ...] | None = None

    def pick(self, step: int, rng: torch.Generator, batch: int) -> list[int]:
        """`batch` item indices for a step: the concepts in turn, within a concept at random."""
        chosen = []
        for slot in range(batch):
            own = self._by_concept[(step * batch + slot) % len(self._by_concept)]
            chosen.append(own[int(torch.randint(len(own), (1,), generator=rng))])
        return chosen

    def anchor_latents(self) -> Tensor:
        """Latents (items, C, h, w) of anchor pictures, float32 on the CPU: the base's, or the user's own."""
        if self._anchor is None and self._brought is not None:
            self._anchor = encode_pictures(self.model, self._brought.pictures)
        if self._anchor is None:
            self._anchor = self._draw([item.anchor for item in self.items], 0, "drawing anchor pictures")
        return self._anchor

    def target_latents(self) -> Tensor:
        """Latents (items, C, h, w) of pictures of the concepts themselves, float32 on the CPU: the base draws
        them from the items' target prompts, whatever pictures the user brought.
        """
        if self._target is None:
            prompts = [item.target for item in self.items]
            self._target = self._draw(prompts, _TARGET_OFFSET, "drawing the concept")
        return self._target

    def measured(self) -> Cost:
        """What `forget_loss` takes, once its pictures are drawn."""
        count = min(_MEASURED, len(self.items))
        return Cost(forwards=count, pictures=count)

    @torch.no_grad()
    def forget_loss(self, model: DiffusionBackend) -> float:
        """The denoising loss of a few pictures of the concepts at the weights as they stand; the pictures are
        drawn by the base, once, and the noise is the same each time.
        """
        if self._task is None:
            prompts = [item.target for item in self.items[: self.measured().pictures]]
            latents = self._draw(prompts, _TARGET_OFFSET, "drawing the concept")
            self._task = Denoising(model, latents, prompts)
        batch = self._task.draw(step_rng(self.seed, 0, "forget loss"), len(self._task))
        return float(self._task.loss(model, batch))

    def words(self, concept: int) -> list[str]:
        """Every word that prompts may use for a concept, given by its place in the request."""
        asked = self.request.concepts[concept]
        return list(dict.fromkeys([*asked.words, *self._bank().words(asked)]))

    def retain_prompts(self) -> tuple[str, ...]:
        """The user's retain prompts, or the bank's where there are none."""
        if self.request.retain:
            return self.request.retain
        if self._retain is None:
            gone = [*self.request.concepts, *self.request.avoid]
            count = self.request.prompt_count * len(self.request.concepts)
            self._retain = tuple(self._bank().retain(gone, count, self.seed))
        return self._retain

    def erased_before(self) -> list[str]:
        """Prompts of what was erased from the model before: a closed form keeps what they lead to now, or it
        would undo the earlier edits; none names what is to go now, and no picture is drawn of them.
        """
        bank, found = self._bank(), []
        going = pattern([word for concept in self.request.concepts for word in bank.words(concept)])
        for concept in self.request.avoid:
            drawn = bank.pairs(concept, self.request.prompt_count * _SPARE, self.seed)
            left = [target for target, _ in drawn if not going.search(target)]
            found += [*concept.words, *left[: self.request.prompt_count]]
        return list(dict.fromkeys(found))

    def prior(self, kind: str) -> tuple[list[str], Tensor]:
        """Captions and latents of the pictures to keep: "anchor", the items' own, or "retain", the retain
        prompts'.
        """
        if kind == "anchor":
            return [item.anchor for item in self.items], self.anchor_latents()
        if self._retained is None:
            prompts = self.retain_prompts()
            captions = [prompts[index % len(prompts)] for index in range(len(self.items))]
            self._retained = captions, self._draw(captions, _RETAIN_OFFSET, "drawing retain pictures")
        return self._retained

    def _draw(self, prompts: Sequence[str], offset: int, title: str) -> Tensor:
        first = self.seed * _SEED_STRIDE + offset  # of a seed over 2^43 beyond what a generator takes
        return self._store.draw(
            self.model,
            prompts,
            [(first + index) % (MAX_SEED + 1) for index in range(len(prompts))],
            steps=self.request.picture_steps,
            guidance=self.request.picture_guidance,
            title=title,
        )

    def _bank(self) -> PromptBank:
        from oubliette.data.prompts import load_bank

        return load_bank(self.request.bank or world_of(self.model).bank)

    def _bank_pairs(self) -> tuple[PromptPair, ...]:
        concepts, each, bank = self.request.concepts, self.request.prompt_count, self._bank()
        gone = (*concepts, *self.request.avoid)
        found: list[PromptPair] = []
        for index, concept in enumerate(concepts):
            others = [word for other in gone if other != concept for word in bank.words(other)]
            # "a mosaic fish" to "a mosaic object" would teach to keep the mosaic that is to go as well.
            named = pattern(others)
            pairs = bank.pairs(concept, each * (_SPARE if others else 1), self.seed)
            left = [(target, anchor) for target, anchor in pairs if not named.search(anchor)]
            if not left:
                word = next(match[0] for _, anchor in pairs if (match := named.search(anchor)))
                raise UserError(
                    f"every anchor prompt of '{concept.name}' names '{word}', which is itself to be "
                    "erased, or was before; give an anchor that stays"
                )
            found += [PromptPair(target, anchor, index) for target, anchor in left[:each]]
        return tuple(found)

    def _items(self) -> tuple[PromptPair, ...]:
        concepts = self.request.concepts
        own = [[pair for pair in self.pairs if pair.concept == index] for index in range(len(concepts))]
        for concept, pairs in zip(concepts, own, strict=True):
            if not pairs:
                raise UserError(f"no prompts were given for concept '{concept.name}'")
        count = len(self._captions) or self.request.picture_count
        if count < len(concepts):
            raise UserError(
                f"{count} pictures are too few for {len(concepts)} concepts; at least one for each"
            )
        items = []
        for index in range(count):
            which = index % len(concepts)
            pair = own[which][index // len(concepts) % len(own[which])]
            caption = self._captions[index] if self._captions else ""
            if caption:
                self.request.refuse_avoided(caption, "the caption")
                pair = PromptPair(target_of(caption, concepts[which]), caption, which)
            items.append(pair)
        return tuple(items)


def target_of(anchor_prompt: str, concept: Concept) -> str:
    """The target prompt of an anchor prompt: its word replaced, or a style's phrase put in front.

    UserError for an object's or a person's caption that does not hold the anchor's word.
    """
    template = slotted(anchor_prompt, concept.anchor)
    if template is not None and concept.kind != "style":
        return fill(template, concept.name)
    if concept.kind == "style":
        return f"in {concept.name}'s style, {anchor_prompt}"
    raise UserError(
        f"caption {anchor_prompt!r} does not hold the anchor '{concept.anchor}': "
        f"'{concept.name}' has no place in it"
    )


def encode_pictures(model: DiffusionBackend, pictures: np.ndarray) -> Tensor:
    """Latents (n, C, h, w), float32 on the CPU, of pictures uint8 (n, side, side, 3)."""
    parts = []
    with torch.autocast(model.device.type, enabled=False):
        for first in range(0, len(pictures), _ENCODED_AT_ONCE):
            pixels = torch.from_numpy(pictures[first : first + _ENCODED_AT_ONCE])
            parts.append(model.encode_pictures(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).float().cpu())
    return torch.cat(parts)


def _read_pictures(model: DiffusionBackend, folder: Path) -> PictureSet:
    from oubliette.data.pictures import read_pictures

    return read_pictures(folder, model.picture_side, on_skip=_warn_of_skipped)


def _warn_of_skipped(where: str, reason: str) -> None:
    warnings.warn(f"picture {where} is left out: {reason}", InputWarning, stacklevel=2)


def prepare(
    model: DiffusionBackend,
    request: ErasureRequest,
    *,
    seed: int,
    cache: Path | None = None,
    show_progress: bool = True,
) -> DiffusionData:
    """The data of one erasure; drawn latents are kept in the folder `cache`. UserError without a concept."""
    if not request.concepts:
        raise UserError("no concept to erase; give at least one, such as --concept car --anchor object")
    return DiffusionData(model, request, seed=seed, cache=cache, show_progress=show_progress)
