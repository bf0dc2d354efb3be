"""What verifying found: plain dataclasses, the verdict's word, and its exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from oubliette.guard.mask import Mask

__all__ = [
    "NOT_CHECKABLE",
    "RESPECTED",
    "VIOLATED",
    "Status",
    "TensorCheck",
    "Verification",
    "recoverable_line",
]

Word = Literal["respected", "violated", "not checkable"]
RESPECTED: Word = "respected"
VIOLATED: Word = "violated"
NOT_CHECKABLE: Word = "not checkable"
_SHOWN = 3
Status = Literal["untouched", "changed", "missing", "not checkable"]


@dataclass(frozen=True)
class TensorCheck:
    """One frozen tensor in one place.

    `where` is the set of weights or the adapter file; `form` the dtype in which it is the base's, bit for
    bit, if it is. `max_abs`, `relative` (Frobenius) and `rank` say how far it moved where that is known: they
    need the base, but for an adapter's own `max_abs` and `rank`. `note` says what else there is to say.
    """

    name: str
    status: Status
    where: str
    form: str | None = None
    max_abs: float | None = None
    relative: float | None = None
    rank: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """Whether a mask was respected, tensor by tensor; and apart from it, what is known of the concept.

    `word` is "respected", "violated" or "not checkable", with `reasons` in sentences. `form` is what was
    looked at: "pipeline", "weights", "delta" or "adapter". `mask` is the mask's digest; `files` are the
    sha256 of the files looked at, where they were asked for. `recoverable` says what the mask was measured to
    do: a mask that was respected does not say that the concept stays away.
    """

    word: Word
    reasons: list[str]
    recoverable: str
    form: str
    tuned: str
    base: str | None
    mask: str
    mask_base: str
    tensors: tuple[TensorCheck, ...]
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    oubliette: str = ""

    @property
    def exit_code(self) -> int:
        """0 respected, 1 violated, 3 could not tell."""
        return {RESPECTED: 0, VIOLATED: 1}.get(self.word, 3)

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended how."""
        return dict(Counter(check.status for check in self.tensors))

    def of(self, status: Status) -> list[TensorCheck]:
        """The checks that ended so, in the mask's order."""
        return [check for check in self.tensors if check.status == status]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the counts and the exit code."""
        return {**asdict(self), "counts": self.counts, "exit_code": self.exit_code}


def recoverable_line(measured: dict[str, Any]) -> str:
    """What a mask's measurements say of the concept: their "recoverable", or that nothing was tested."""
    if not measured:
        return "not tested"
    said = measured.get("recoverable")
    return str(said) if said is not None else "measured; see the mask's figures"


def verdict(
    mask: Mask, checks: list[TensorCheck], unclear: list[str], adapters: set[str]
) -> tuple[Word, list[str]]:
    """The word and the reasons for it; a changed tensor outweighs all that could not be compared."""
    changed = [check for check in checks if check.status == "changed"]
    missing = _names(checks, "missing")
    closed = [check for check in checks if check.status == "not checkable"]
    count = len(mask.frozen)
    reasons = []
    if changed:
        names = _names(checks, "changed")
        reasons.append(f"{len(names)} of {count} frozen tensors changed: {_some(names)}")
        matrices = [check for check in changed if len(mask.candidates[check.name]) >= 2]
        if merged := _merged([check for check in matrices if check.where not in adapters]):
            reasons.append(merged)
    if missing:
        what = "; another architecture, or other names" if len(missing) == count else ""
        reasons.append(f"{len(missing)} of {count} frozen tensors are missing: {_some(missing)}{what}")
    if closed:
        names = _names(checks, "not checkable")
        reasons.append(
            f"{len(names)} of {count} frozen tensors cannot be compared: {closed[0].name}, {closed[0].note}"
        )
    reasons.extend(unclear)
    if changed:
        return VIOLATED, reasons
    if missing or closed or unclear:
        return NOT_CHECKABLE, reasons
    return RESPECTED, [f"all {count} frozen tensors are as published, bit for bit after casting"]


def _names(checks: Sequence[TensorCheck], status: Status) -> list[str]:
    return list(dict.fromkeys(check.name for check in checks if check.status == status))


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _merged(checks: Sequence[TensorCheck]) -> str | None:
    """A sentence where at least half of these changed matrices differ by a low rank; None elsewhere."""
    low = [check.rank for check in checks if check.rank is not None]
    if not low or 2 * len(low) < len(checks):
        return None
    return f"merged low-rank adapter, rank ~ {max(low)} (in {len(low)} of {len(checks)} changed matrices)"
