"""A judge from any image classifier in the transformers layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oubliette.core.errors import UserError
from oubliette.core.manifest import fingerprint as fingerprint_of
from oubliette.eval.judge import check_pictures

if TYPE_CHECKING:
    from oubliette.data.concept import Concept


class ClassifierJudge:
    """The concept is in a picture whose best class is the concept's, with at least `threshold` probability.

    A concept is covered where its name or a synonym equals one of the comma-separated names of a class, case
    aside (ImageNet's "garbage truck, dustcart"). This is the Imagenette protocol of ESD and UCE.
    """

    def __init__(
        self, network: Any, processor: Any, *, name: str, threshold: float | None = None, batch: int = 32
    ) -> None:
        self.network = network.eval()
        self.processor = processor
        self.name = name
        self.threshold = threshold
        self.batch = batch
        self.fingerprint = fingerprint_of(dict(network.state_dict()))
        self._classes: dict[str, set[int]] = {}
        for index, label in network.config.id2label.items():
            for word in str(label).split(","):
                self._classes.setdefault(_plain(word), set()).add(int(index))

    @classmethod
    def open(cls, argument: str | None, model: Any = None) -> ClassifierJudge:
        """A judge from a folder or Hub id; only safetensors are opened."""
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        from oubliette.backends.quiet import quiet_loading

        if argument is None:
            raise UserError("judge classifier: name a folder or Hub id, as in classifier:microsoft/resnet-50")
        local = Path(argument).is_dir()  # a folder is complete: nothing is to be asked of the Hub
        try:
            with quiet_loading():
                network = AutoModelForImageClassification.from_pretrained(
                    argument, use_safetensors=True, local_files_only=local
                )
                processor = AutoImageProcessor.from_pretrained(argument, local_files_only=local)
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"judge classifier: {argument} could not be opened: {reason}") from error
        name = Path(argument).name if local else argument
        return cls(network.to(getattr(model, "device", "cpu")), processor, name=f"classifier:{name}")

    def covers(self, concept: Concept) -> bool:
        """Whether one of the classes carries the concept's name or one of its synonyms."""
        return bool(self._indices(concept))

    @torch.no_grad()
    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,): the best class is the concept's."""
        check_pictures(pictures)
        wanted = np.array(sorted(self._indices(concept)), dtype=np.int64)
        device = next(self.network.parameters()).device
        rows = []
        for start in range(0, len(pictures), self.batch):
            inputs = self.processor(
                images=list(pictures[start : start + self.batch]), return_tensors="pt"
            ).to(device)
            share = self.network(**inputs).logits.float().softmax(-1).cpu().numpy()
            best = share.argmax(1)
            rows.append(np.isin(best, wanted) & (share.max(1) >= (self.threshold or 0.0)))
        return np.concatenate(rows) if rows else np.zeros(0, dtype=bool)

    def _indices(self, concept: Concept) -> set[int]:
        return set().union(*(self._classes.get(_plain(word), set()) for word in concept.words))


def _plain(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").split())
