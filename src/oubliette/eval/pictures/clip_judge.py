"""A judge from CLIP: the concept is in a picture that its words fit better than the anchor's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from oubliette.core.errors import UserError
from oubliette.eval.pictures.clip import ClipModel, open_clip_model, probability
from oubliette.world.world import every_world, world_of

if TYPE_CHECKING:
    from oubliette.data.concept import Concept


class ClipJudge:
    """Zero-shot judge: softmax of concept against anchor at the model's own scale, at least `threshold`.

    `word_of(kind, name)` restricts a CLIP trained on a small world to what that world holds: it returns the
    word to use for a name, or None for a name the world does not have. Without it every concept is covered.
    With the threshold at 0.5 this is CLIP accuracy (Kumari et al. 2023, arXiv:2303.13516).
    """

    def __init__(
        self,
        clip: ClipModel,
        *,
        threshold: float = 0.5,
        word_of: Callable[[str, str], str | None] | None = None,
    ) -> None:
        self.clip = clip
        self.name = f"clip:{clip.name}"
        self.fingerprint = clip.fingerprint
        self.threshold: float | None = threshold
        self._word_of = word_of

    @classmethod
    def open(cls, argument: str | None, model: Any = None) -> ClipJudge:
        """A judge from a CLIP's name or folder; with no argument, the CLIP of the model's own world."""
        name = argument or world_of(model).judges.get("clip")
        if name is None:
            raise UserError(
                "judge clip: name a model, as in clip:ViT-B-32/laion2b_s34b_b79k, or give its folder"
            )
        its_own = [world for world in every_world() if world.judges.get("clip") == name]
        return cls(
            open_clip_model(name, device=getattr(model, "device", "cpu")),
            word_of=its_own[0].word if its_own else None,
        )

    def covers(self, concept: Concept) -> bool:
        """Whether the CLIP has words for the concept."""
        return self._word(concept.kind, concept.name) is not None

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,): the concept's words beat the anchor's with at least the threshold's probability."""
        embeddings = self.clip.encode_pictures(pictures)
        target = self.encode_name(concept.name, concept.kind)
        anchor = self.encode_anchor(concept.anchor)
        return probability(embeddings, target, anchor, self.clip.scale) >= (self.threshold or 0.0)

    def margin(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Cosine with the concept's words less that with the anchor's, (n,): what `hits` sets a bound to."""
        embeddings = self.clip.encode_pictures(pictures)
        target = self.encode_name(concept.name, concept.kind)
        return embeddings @ target - embeddings @ self.encode_anchor(concept.anchor)

    def word(self, concept: Concept) -> str:
        """The word that this CLIP knows the concept by."""
        return self._word(concept.kind, concept.name) or concept.name

    def encode_name(self, name: str, kind: str) -> np.ndarray:
        """Unit-length text embedding (d,) of a concept's name, in the word that this CLIP knows it by."""
        return self.clip.encode_word(self._word(kind, name) or name, kind)

    def encode_anchor(self, anchor: str) -> np.ndarray:
        """Unit-length text embedding (d,) of an anchor; an empty one is any picture."""
        return self.clip.encode_word(anchor or "picture", "anchor")

    def _word(self, kind: str, name: str) -> str | None:
        return name if self._word_of is None else self._word_of(kind, name)
