"""The mask: which tensors fine-tuning must leave as they are, tied to its base by hashes, with how it came
about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, Field

from oubliette.core.errors import UserError
from oubliette.guard.canonical import own_name

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["FORMAT", "Base", "FrozenTensor", "Mask", "MaskBudget", "read_mask"]

FORMAT = "oubliette-guard/1"
_SHOWN = 3

# What a file may hold, so that a hostile one can neither steer a terminal nor name anything but a tensor.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=500)]
# No control characters, and none that turn the direction of writing or hide.
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]*$"
Text = Annotated[str, Field(pattern=_PLAIN, max_length=500)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Shape = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**40)], ...], Field(max_length=8)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Form = Annotated[str, Field(pattern="^(stored|float32|float16|bfloat16)$")]
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Asked(Protocol):
    """What a budget says: a share of "parameters" or of "tensors"."""

    @property
    def share(self) -> float: ...
    @property
    def of(self) -> Any: ...


@dataclass(frozen=True)
class Base:
    """The model a mask belongs to.

    `source` is what it was opened from (of a folder, its name alone), `revision` the Hub's commit where it is
    known, `fingerprint` the backend's over all weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    source: Text
    revision: Commit | None
    fingerprint: Sha256
    kind: Literal["diffusion", "language"]
    world: Text | None


@dataclass(frozen=True)
class FrozenTensor:
    """A tensor that must not move: its name in the model, its shape, its stored dtype, and its digests.

    `sha256` has the bytes as stored and in float32, float16 and bfloat16 (contiguous, little-endian), so that
    whoever holds any of these can compare without the base.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: Name
    shape: Shape
    dtype: Name
    sha256: Annotated[dict[Form, Sha256], Field(min_length=4)]

    @property
    def size(self) -> int:
        """The number of its parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class MaskBudget:
    """What was asked, a share of "parameters" or "tensors" (None: nothing), and both shares as they are."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    of: Literal["parameters", "tensors"]
    share: Ratio | None
    parameter_share: Ratio
    tensor_share: Ratio


@dataclass(frozen=True)
class Mask:
    """Frozen tensors of one base.

    `candidates` are the shapes of all tensors that could have been frozen, by name, in the model's order.
    `learned` says how (learner, options, seed, data fingerprints, versions, stability), `measured` what the
    mask was seen to do ({} if nothing was measured). `scores` by candidate let other budgets be cut from the
    same run; they lie in `scores.safetensors`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    base: Base
    budget: MaskBudget
    frozen: Annotated[tuple[FrozenTensor, ...], Field(min_length=1)]
    candidates: dict[Name, Shape]
    learned: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] | None = None

    @property
    def names(self) -> list[str]:
        """Plain names of the frozen tensors, in the model's order."""
        return [tensor.name for tensor in self.frozen]

    def digest(self) -> str:
        """The sha256 that stands at the end of `guard.json`: over the whole content, scores included."""
        from oubliette.guard.artefact import content_digest

        return content_digest(self)

    @classmethod
    def make(
        cls,
        model: Backend,
        names: Iterable[str],
        *,
        budget: Asked | Mapping[str, Any] | None = None,
        learned: Mapping[str, Any] | None = None,
        measured: Mapping[str, Any] | None = None,
        scores: Mapping[str, float] | None = None,
        candidates: Iterable[str] | None = None,
        revision: str | None = None,
    ) -> Mask:
        """The mask that freezes `names` of `model` as its weights are now.

        `budget` is what was asked (`share`, `of`), by default nothing. `candidates` are by default the
        tensors of the network, or of the whole model where `names` reach beyond it. `revision` is the Hub's
        commit (40 hex digits), by default that of the Hub's cache the model was opened from. Each frozen
        tensor is hashed in pieces. UserError for unknown names, for none, for values that are not finite, and
        for a branch's name.
        """
        from oubliette.guard.making import make_mask

        return make_mask(
            model,
            names,
            budget=budget,
            learned=learned or {},
            measured=measured or {},
            scores=scores,
            candidates=candidates,
            revision=revision,
        )

    def with_measured(self, measured: Mapping[str, Any]) -> Mask:
        """The same mask with what it was measured to do."""
        from oubliette.guard.making import plain

        return replace(self, measured=plain(measured, "measured"))

    def bind(self, model: Backend) -> None:
        """Check that `model` holds the mask's frozen tensors, bit for bit; UserError naming those that
        differ.

        Copies under another name, in shards, in float16 or bfloat16, or with wrappers around the model are
        the same base; one with another shape or another bit is not.
        """
        from oubliette.guard.hashes import matching_form, pieces

        held = {own_name(name): tensor.detach() for name, tensor in model.tensors().items()}
        missing, reshaped, differing = [], [], []
        for tensor in self.frozen:
            own = held.get(own_name(tensor.name))
            if own is None:
                missing.append(tensor.name)
            elif tuple(own.shape) != tensor.shape:
                reshaped.append(f"{tensor.name} {tuple(own.shape)} for {tensor.shape}")
            elif matching_form(tensor, own.dtype, lambda own=own: pieces(own)) is None:  # type: ignore[misc]
                differing.append(tensor.name)
        found = [
            f"{len(them)} of {len(self.frozen)} frozen tensors {what}: {_some(them)}"
            for what, them in (
                ("are missing", missing),
                ("have another shape", reshaped),
                ("differ", differing),
            )
            if them
        ]
        if found:
            raise UserError(
                f"{model.source}: is not the base of this mask ({self.base.source}); {'; '.join(found)}"
            )

    def write(self, folder: Path | str, *, card: bool = True, licence: str | None = None) -> None:
        """Write `guard.json`, `scores.safetensors` (where there are scores) and the Hub's `README.md`.

        `licence` is a Hub licence id ("openrail++") for the card's header: the publisher's to say. Atomic;
        UserError if the folder exists.
        """
        from oubliette.guard.artefact import write_mask

        write_mask(self, Path(folder), card=card, licence=licence)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in `guard.json` but for `format`, `scores` and `digest`."""
        content = asdict(replace(self, scores=None))
        del content["scores"]
        return content


def read_mask(path: Path | str) -> Mask:
    """The mask in a folder, or in a `guard.json` with its `scores.safetensors` beside it.

    Raises UserError, in one line, for anything but what was written, to the last byte.
    """
    from oubliette.guard.artefact import read

    return read(Path(path))


def check_mask(mask: Mask, where: str) -> None:
    """Raise UserError where the parts of a mask contradict each other; `where` opens the line."""
    seen: set[str] = set()
    for tensor in mask.frozen:
        if tensor.name in seen:
            raise UserError(f"{where}: tensor '{tensor.name}' is frozen twice")
        seen.add(tensor.name)
        if mask.candidates.get(tensor.name) != tensor.shape:
            raise UserError(
                f"{where}: frozen tensor '{tensor.name}' {tensor.shape} is not among the candidates, found "
                f"{mask.candidates.get(tensor.name)}"
            )
        if tensor.sha256.get(tensor.dtype, tensor.sha256["stored"]) != tensor.sha256["stored"]:
            raise UserError(
                f"{where}: frozen tensor '{tensor.name}' is stored in {tensor.dtype}, but its "
                f"sha256.stored is not its sha256.{tensor.dtype}; the mask was changed"
            )
    for key, right in shares(mask.frozen, mask.candidates).items():
        said = getattr(mask.budget, key)
        if not math.isclose(said, right, rel_tol=1e-9):
            raise UserError(f"{where}: budget.{key} is {said}, but its tensors make it {right}")
    for name, value in (mask.scores or {}).items():
        if name not in mask.candidates:
            raise UserError(f"{where}: has a score for '{name}', which is no candidate")
        if not math.isfinite(value):
            raise UserError(f"{where}: the score of '{name}' is {value}, expected a finite number")


def shares(frozen: Iterable[FrozenTensor], candidates: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """The frozen share of the candidates' parameters and of their number."""
    own = [tensor.size for tensor in frozen]
    total = sum(math.prod(shape) for shape in candidates.values())
    return {
        "parameter_share": sum(own) / total if total else 0.0,
        "tensor_share": len(own) / len(candidates) if candidates else 0.0,
    }


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
