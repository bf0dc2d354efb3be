"""A judge from an oracle: a classifier with a head for each kind and a "none" class in every head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.manifest import hash_file
from oubliette.eval.judge import check_pictures
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.data.concept import Concept

NONE = "none"


class OracleJudge:
    """The concept is in a picture when the oracle's head for its kind names it; rubbish is named "none".

    `oracle` has `predict(pictures) -> {head: names (n,)}`; `classes` maps a head to the names it may give;
    `resolve(kind, word)` turns a synonym into the oracle's own name, or None.
    """

    threshold: float | None = None

    def __init__(
        self,
        oracle: Any,
        classes: Mapping[str, Sequence[str]],
        *,
        fingerprint: str,
        name: str = "oracle",
        resolve: Callable[[str, str], str | None] | None = None,
    ) -> None:
        self.oracle = oracle
        self.name = name
        self.fingerprint = fingerprint
        self._classes = {head: frozenset(names) - {NONE} for head, names in classes.items()}
        self._resolve = resolve

    @classmethod
    def open(cls, argument: str | None, model: Any = None) -> OracleJudge:
        """The oracle of the model's world, the picture world's where that has none; or one in a folder."""
        from oubliette.world import embedded, oracle
        from oubliette.world.facts import PICTURE

        if argument is not None:
            folder, loaded = Path(argument), oracle.load(Path(argument))
            return cls(loaded, loaded.classes, fingerprint=_hash(folder), name=f"oracle:{folder.name}")
        world = world_of(model)
        world = world if "oracle" in world.judges else PICTURE
        own = embedded.path(world.judges["oracle"])
        if own is None:
            raise UserError(
                f"judge oracle: {world.judges['oracle']} is not in this installation; install oubliette again"
            )
        classes = {kind: world.all_names(kind) for kind in world.tables}
        return cls(oracle.load(own), classes, fingerprint=_hash(own), resolve=world.resolve)

    def covers(self, concept: Concept) -> bool:
        """Whether the head for the concept's kind has a class for it."""
        return self._own(concept) in self._classes.get(concept.kind, ())

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,): the head names the concept."""
        check_pictures(pictures)
        return np.asarray(self.oracle.predict(pictures)[concept.kind] == self._own(concept), dtype=bool)

    def _own(self, concept: Concept) -> str:
        return (self._resolve(concept.kind, concept.name) if self._resolve else None) or concept.name


def _hash(folder: Path) -> str:
    """sha256 over the weight files of a folder, by name and content."""
    files = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256("".join(f"{file.name} {hash_file(file)}\n" for file in files).encode()).hexdigest()
