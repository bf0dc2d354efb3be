"""A row of the table as something that is asked: the model under test, the base, or a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oubliette.eval.sample_store import How, Progress, SampleStore, sample_keys

__all__ = ["CachedSampler"]


class CachedSampler:
    """Asks a model through the sample store, as one row of the table.

    `sampling` says how. `role` is "model" or "control". `rewrite` changes a prompt before it is put (the
    prompt filter). The model's hash is taken once: its weights must not change while this is in use.
    UserError for a model that cannot be asked so.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        cache: SampleStore,
        sampling: How,
        *,
        role: str = "model",
        rewrite: Callable[[str], str] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        sampling.check(model)
        self.name = name
        self.role = role
        self.model = model
        self.cache = cache
        self.sampling: Any = sampling  # what is of one kind of sample alone asks for that kind's own
        self.fingerprint: str = fingerprint or model.fingerprint()
        self._rewrite = rewrite

    def like(
        self,
        name: str,
        model: Any,
        *,
        rewrite: Callable[[str], str] | None = None,
        fingerprint: str | None = None,
        cache: SampleStore | None = None,
    ) -> CachedSampler:
        """The same for another model, asked in the same way, into the same store unless another is given."""
        return CachedSampler(
            name,
            model,
            cache or self.cache,
            self.sampling,
            role=self.role,
            rewrite=rewrite,
            fingerprint=fingerprint,
        )

    def fill(self, prompts: Sequence[str], seeds: Sequence[int], *, progress: Progress | None = None) -> None:
        """Have every sample in the store; many at once, so that batches are full."""
        self.cache.fill(
            self.model,
            self._rewritten(prompts),
            seeds,
            self.sampling,
            fingerprint=self.fingerprint,
            progress=progress,
        )

    def recall(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Samples (n, ...) that `fill` has put there; asks nothing, whatever the weights are."""
        return self.sampling.together(prompts, self.cache.read(self.keys(prompts, seeds)))

    def keys(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """The store's key of each sample."""
        return sample_keys(self.fingerprint, self._rewritten(prompts), seeds, self.sampling.facts(self.model))

    def _rewritten(self, prompts: Sequence[str]) -> list[str]:
        return list(prompts) if self._rewrite is None else [self._rewrite(prompt) for prompt in prompts]
