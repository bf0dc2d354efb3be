"""What says whether a concept is in a picture: one interface, several judges, looked up by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.registry import Registry
from oubliette.core.validation import user_path
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.data.concept import Concept


@runtime_checkable
class Judge(Protocol):
    """Says of each picture whether a concept is in it.

    `name` tells a reader which judge it was, `fingerprint` which weights, `threshold` what a score had to
    reach (None where the judge takes the best class and asks no more).
    """

    name: str
    fingerprint: str
    threshold: float | None

    def covers(self, concept: Concept) -> bool:
        """Whether the judge knows the concept; a judge is never asked about one that it does not know."""
        ...

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,) for uint8 pictures (n, H, W, 3); depends on each picture alone."""
        ...


#: Each class has a classmethod `open(argument: str | None, model) -> Judge`.
JUDGES: Registry[Any] = Registry(
    "judge",
    {
        "oracle": "oubliette.eval.pictures.oracle_judge:OracleJudge",
        "clip": "oubliette.eval.pictures.clip_judge:ClipJudge",
        "classifier": "oubliette.eval.pictures.classifier_judge:ClassifierJudge",
    },
)

#: A folder is opened by the judge whose file lies in it.
_MARKS = {"open_clip_config.json": "clip", "oracle.json": "oracle", "preprocessor_config.json": "classifier"}


def open_judge(spec: str, model: Any = None) -> Judge:
    """Open a judge from `name`, `name:argument` (`clip:ViT-B-32/laion2b_s34b_b79k`) or a folder.

    `model` is what will be judged: it decides what a bare name means where an embedded world has a judge of
    its own. Raises UserError for an unknown name or a folder that holds no judge.
    """
    if not spec:
        raise UserError(
            "judge: an empty name was given; use oracle, clip:MODEL, classifier:FOLDER or a folder"
        )
    folder = user_path(spec)
    if folder.is_dir():
        return JUDGES.get(_kind_of(folder)).open(str(folder), model)
    name, _, argument = spec.partition(":")
    return JUDGES.get(name).open(argument or None, model)


def default_judges(model: Any) -> list[Judge]:
    """The judges of the world a model comes from, the one that decides first; none for a model of no known
    world.
    """
    return [open_judge(name, model) for name in world_of(model).judges]


def covering(judges: Sequence[Judge], concept: Concept) -> list[Judge]:
    """The judges that know a concept, in the order given; the first one decides."""
    return [judge for judge in judges if judge.covers(concept)]


def check_pictures(pictures: np.ndarray) -> np.ndarray:
    """The pictures as they are if they are uint8 (n, H, W, 3); ValueError otherwise."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ValueError(f"pictures must be uint8 (n, H, W, 3); found {pictures.dtype} {pictures.shape}")
    return pictures


def _kind_of(folder: Path) -> str:
    for mark, kind in _MARKS.items():
        if (folder / mark).is_file():
            return kind
    raise UserError(
        f"judge: {folder} holds none of {', '.join(_MARKS)}, so it is no judge that can be opened"
    )
