"""A judge from an oracle: a classifier with a head for each kind and a "none" class in every head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oubliette.eval.judge import check_pictures

if TYPE_CHECKING:
    from oubliette.data.concept import Concept


class OracleJudge:
    """The concept is in a picture when the oracle's head for its kind names it; rubbish is named "none".

    `oracle` has `classes` (head -> names), `fingerprint` and `predict(pictures) -> {head: names (n,)}`.
    `resolve(kind, word)` turns a synonym into the oracle's own name, or None.
    """

    threshold: float | None = None

    def __init__(
        self, oracle: Any, *, name: str = "oracle", resolve: Callable[[str, str], str | None] | None = None
    ) -> None:
        self.oracle = oracle
        self.name = name
        self.fingerprint: str = oracle.fingerprint
        self._resolve = resolve

    @classmethod
    def open(cls, argument: str | None, model: Any = None) -> OracleJudge:
        """The embedded oracle of the picture world, or one in a folder."""
        from oubliette.world import facts, oracle

        if argument is None:
            return cls(oracle.load(), resolve=facts.resolve)
        return cls(oracle.load(Path(argument)), name=f"oracle:{Path(argument).name}")

    def covers(self, concept: Concept) -> bool:
        """Whether the head for the concept's kind has a class for it."""
        return self._own(concept) in self.oracle.classes.get(concept.kind, ())

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,): the head names the concept."""
        check_pictures(pictures)
        return np.asarray(self.oracle.predict(pictures)[concept.kind] == self._own(concept), dtype=bool)

    def _own(self, concept: Concept) -> str:
        return (self._resolve(concept.kind, concept.name) if self._resolve else None) or concept.name
