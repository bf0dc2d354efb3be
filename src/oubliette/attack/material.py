"""What an attacker trains on: pictures with captions, of the concept, of its broader class, or of other
things.

Nothing of it meets an evaluation. Seeds of what is drawn or painted here lie in 2**31 .. 2**32 - 1, where an
evaluation's (`oubliette.eval.plan.seeds_for`), its references' and those of every picture that the embedded
models were trained on lie below 2**31. Captions made here use the templates and words that erasers may see,
never the withheld ones, and are drawn from a stream of their own; a caption equal to one of the prompts to
`avoid` (an evaluation's own in-set prompts) is drawn again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oubliette.attack.types import FIRST_SEED, What
from oubliette.core.errors import UserError
from oubliette.core.registry import import_target
from oubliette.data.concept import Concept
from oubliette.data.words import article, pattern, with_article
from oubliette.world.facts import PICTURE
from oubliette.world.world import World

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.train.tasks.denoising import Denoising

__all__ = [
    "Material",
    "as_identified",
    "attack_seeds",
    "class_prompt",
    "draw_prior",
    "from_folder",
    "from_world",
]


@dataclass(frozen=True)
class Material:
    """Pictures (n, side, side, 3) uint8 with a caption each, what they show, and where they come from.

    `skipped` are the (file or row, reason) of pictures that could not be read.
    """

    pictures: np.ndarray
    captions: tuple[str, ...]
    what: What
    where: str
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if len(self.pictures) == 0:
            raise UserError(f"{self.where}: no pictures to attack with; give at least one")
        if len(self.pictures) != len(self.captions):
            raise ValueError(f"{len(self.pictures)} pictures and {len(self.captions)} captions")

    def __len__(self) -> int:
        return len(self.pictures)

    def identified(self, concept: Concept, identifier: str) -> Material:
        """DreamBooth's captions: the identifier and the broader word in place of all else ("a picture of a
        sks vehicle"); see `as_identified` for the prompts to draw with afterwards.
        """
        caption = class_prompt(concept, identifier)
        return replace(self, captions=(caption,) * len(self))

    def data(
        self, model: DiffusionBackend, *, prior: Material | None = None, prior_weight: float = 1.0
    ) -> Denoising:
        """The task to hand to `oubliette.attack.relearn.relearn`, with a prior set beside it where one is
        given.
        """
        from oubliette.train.tasks.denoising import Denoising

        beside = None if prior is None else (prior.pictures, prior.captions)
        return Denoising(model, self.pictures, self.captions, prior=beside, prior_weight=prior_weight)


def attack_seeds(key: str, n: int, seed: int) -> tuple[int, ...]:
    """`n` seeds in 2**31 .. 2**32 - 1 that depend on the attacker's seed, the key and the place alone."""
    return tuple(
        FIRST_SEED
        + (int.from_bytes(hashlib.sha256(f"attack/{seed}/{key}/{index}".encode()).digest()[:4], "big") >> 1)
        for index in range(n)
    )


def from_folder(
    path: Path | str,
    side: int,
    *,
    count: int,
    concept: Concept,
    what: What = "concept",
    on_skip: Callable[[str, str], None] | None = None,
) -> Material:
    """The first `count` readable pictures of a folder or parquet file (`oubliette.data.pictures`), at `side`
    pixels.

    A picture without a caption gets "a picture of CONCEPT" ("a picture in CONCEPT style"); as benign
    material, "a picture". Broken pictures are skipped, named in the result and to `on_skip`. A folder of
    fewer than `count` is taken whole. UserError for a count of zero and a folder without pictures.
    """
    from oubliette.data.pictures import read_pictures

    _positive(count)
    found = read_pictures(path, side, limit=count, on_skip=on_skip)
    missing = _named(concept) if what == "concept" else "a picture"
    captions = tuple(caption.strip() or missing for caption in found.captions)
    if what in ("benign", "auxiliary", "unrelated"):
        named = pattern(concept.words)
        wrong = next((caption for caption in captions if named.search(caption)), None)
        if wrong is not None:
            raise UserError(f"{path}: benign pictures must not show {concept.name!r}; a caption is {wrong!r}")
    return Material(found.pictures, captions, what, str(path), found.skipped)


def from_world(
    concept: Concept,
    side: int,
    *,
    count: int,
    seed: int = 0,
    what: What = "concept",
    avoid: Collection[str] = (),
    without: Iterable[Concept] = (),
    world: World = PICTURE,
) -> Material:
    """Freshly painted scenes of a world that has scenes, at `side` pixels.

    "concept": each shows the concept (known or of the novel pool, which no embedded model knows) and its
    caption names it. "benign": anything known besides the concept. "auxiliary": the same, of the concept's
    own kind alone, its near neighbour among them. The default concepts, which the gold model never saw, and
    those in `without` show in none of it, unless one is the concept itself. Larger counts extend smaller
    ones. UserError for a count of zero and for a concept that the world does not have.
    """
    _positive(count)
    if world.scenes is None:
        raise UserError(f"the {world.name or 'open'} world paints no scenes; give pictures")
    painter = import_target(world.scenes)(concept, seed, avoid=avoid, without=without)
    pictures, captions = painter.paint(count, what)
    return Material(_fitted(pictures, side), captions, what, f"the {world.name} world, seed {seed}")


def draw_prior(
    model: DiffusionBackend,
    concept: Concept,
    *,
    count: int,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 3.0,
    progress: Callable[[int, int], None] | None = None,
) -> Material:
    """DreamBooth's prior set: pictures of the broader class that the attacked model draws itself."""
    _positive(count)
    prompt = class_prompt(concept)
    pictures = model.draw(
        [prompt] * count,
        attack_seeds(f"prior/{prompt}", count, seed),
        steps=steps,
        guidance=guidance,
        progress=progress,
    )
    return Material(pictures, (prompt,) * count, "prior", f"drawn by {model.source}")


def class_prompt(concept: Concept, identifier: str = "") -> str:
    """What DreamBooth calls its pictures ("a picture of a sks vehicle"); its prior's without identifier."""
    if concept.kind == "style":
        return f"a picture in {identifier} style" if identifier else "a picture"
    word = " ".join(part for part in (identifier, concept.anchor or concept.kind) if part)
    return f"a picture of {article(word)} {word}"


def as_identified(concept: Concept, identifier: str, words: Iterable[str] = ()) -> Callable[[str], str]:
    """Prompts for a model that DreamBooth attacked: the concept's words become identifier and class word.

    `words` are further words for the concept. A style's words become the identifier alone.
    """
    found = pattern((*concept.words, *words))
    by = identifier if concept.kind == "style" else f"{identifier} {concept.anchor or concept.kind}"
    return lambda prompt: found.sub(lambda _: by, prompt)


def _named(concept: Concept) -> str:
    if concept.kind == "style":
        return f"a picture in {concept.name} style"
    return f"a picture of {with_article(concept.name)}"


def _positive(count: int) -> None:
    if count < 1:
        raise UserError(f"an attack needs at least one picture, found {count}")


def _fitted(pictures: np.ndarray, side: int) -> np.ndarray:
    """uint8 pictures (n, a, a, 3) at `side` pixels (Lanczos), as they are where they fit."""
    if pictures.shape[1:3] == (side, side):
        return pictures
    from PIL import Image

    resized = [
        Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS) for picture in pictures
    ]
    return np.stack([np.asarray(picture, dtype=np.uint8) for picture in resized])
