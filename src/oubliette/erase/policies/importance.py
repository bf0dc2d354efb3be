"""FIT's importance of a text: how steeply its loss depends on its input embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from oubliette.data.questions import QA

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend

__all__ = ["LEVELS", "importance", "level_of", "tertiles"]

LEVELS = ("low", "middle", "high")


def importance(model: LanguageBackend, text: str) -> float:
    """The Frobenius norm of the gradient of a text's mean loss a token at its input embeddings (L, width).

    As much of the text is read as fits the model's context. No parameter gets a gradient. Paper: Xu et al.
    (FIT), 2026 (2601.21682).
    """
    row = QA("", model.reader.shortened(text, model.reader.max_length - 1))
    batch = model.encode([row])
    embeddings = model.embed(batch).detach().requires_grad_()
    with torch.enable_grad():
        said = model.log_likelihood(model.predict(batch, embeddings), batch)
        loss = -said.sum() / int(batch.counts().sum())
        (gradient,) = torch.autograd.grad(loss, embeddings)
    return float(gradient.float().norm())


def level_of(value: float, bounds: tuple[float, float] | None) -> str:
    """Which of `LEVELS` an importance is: below the first bound, below the second, or from there on; the
    middle one while there are no bounds.
    """
    if bounds is None:
        return "middle"
    return LEVELS[sum(value >= bound for bound in bounds)]


def tertiles(seen: Sequence[float]) -> tuple[float, float] | None:
    """The bounds that part what was seen in thirds (linear between ranks); None for fewer than three."""
    if len(seen) < 3:
        return None
    found = torch.tensor(seen, dtype=torch.float64).quantile(
        torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    )
    return float(found[0]), float(found[1])
