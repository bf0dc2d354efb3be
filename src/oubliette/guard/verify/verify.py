"""Was a mask respected? A fine-tuned model's files against the mask's digests, bit for bit after casting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette import __version__
from oubliette.core.errors import UserError
from oubliette.core.manifest import hash_file
from oubliette.guard.canonical import one_line, own_name
from oubliette.guard.hashes import matching_form
from oubliette.guard.mask import FrozenTensor, Mask, read_mask
from oubliette.guard.verify.adapter_file import AdapterFile, Layer
from oubliette.guard.verify.adapter_targets import Targets
from oubliette.guard.verify.checkpoint import Checkpoint, Weights, open_checkpoint, underlay
from oubliette.guard.verify.low_rank import difference
from oubliette.guard.verify.verification import (
    TensorCheck,
    Verification,
    recoverable_line,
    verdict,
)

if TYPE_CHECKING:
    from oubliette.guard.verify.tensor_file import TensorPlace

__all__ = ["verify"]

_SHOWN = 3


def verify(
    mask: Mask | Path | str,
    tuned: Path | str,
    base: Path | str | None = None,
    *,
    hash_files: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check that a fine-tuned model left a mask's frozen tensors as they are.

    `tuned` is a folder (diffusers pipeline or component, transformers, a delta of this package, adapters;
    shards and variants too) or a safetensors file (a component, or adapters). A tensor is compared by the
    digest of the dtype it is stored in, never with a tolerance, so the base is not needed; with `base` (a
    folder, a file or an embedded name) a changed tensor's check says how far it moved and whether a low-rank
    adapter was merged into it. Nothing is loaded: files are read in pieces of a few megabytes, at the speed
    of SHA-256. `hash_files` adds the digests of the files to the result; `progress(done, all)` is called
    after every tensor.

    Raises UserError for files that cannot be read, and a `base` that is not the mask's.
    """
    mask = mask if isinstance(mask, Mask) else read_mask(mask)
    checkpoint = open_checkpoint(tuned)
    run = _Run(mask, checkpoint, None if base is None else _base(base, mask), progress)
    for weights in checkpoint.weights:
        run.weights(weights)
    for adapter in checkpoint.adapters:
        run.adapter(adapter)
    run.rest()
    order = {name: place for place, name in enumerate(mask.names)}
    checks = sorted(run.checks, key=lambda check: order[check.name])
    adapters = {adapter.path.name for adapter in checkpoint.adapters}
    word, reasons = verdict(mask, checks, run.unclear, adapters)
    files = {place.file for weights in checkpoint.weights for place in weights.places.values()}
    files |= {adapter.path for adapter in checkpoint.adapters}
    return Verification(
        word=word,
        reasons=reasons,
        recoverable=recoverable_line(mask.measured),
        form=checkpoint.form,
        tuned=str(tuned),
        base=None if base is None else str(base),
        mask=mask.digest(),
        mask_base=mask.base.source,
        tensors=tuple(checks),
        notes=[*checkpoint.notes, *run.notes],
        files={_within(file, checkpoint.path): hash_file(file) for file in sorted(files)}
        if hash_files
        else {},
        oubliette=__version__,
    )


class _Run:
    """One verification: checks tensors set by set, and notes what cannot be told."""

    def __init__(
        self,
        mask: Mask,
        checkpoint: Checkpoint,
        base: Mapping[str, TensorPlace] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.mask, self.checkpoint, self.base = mask, checkpoint, base
        self.frozen = {own_name(tensor.name): tensor for tensor in mask.frozen}
        self.targets = Targets(mask.candidates)
        self.checks: list[TensorCheck] = []
        self.unclear: list[str] = []
        self.notes: list[str] = []
        self._seen: set[str] = set()
        self._progress = progress

    # -- weights
    def weights(self, weights: Weights) -> None:
        """Check every frozen tensor that a set of weights should hold."""
        named = weights.named(self.mask.names)
        expected = {
            own: tensor
            for own, tensor in self.frozen.items()
            if weights.component is None or own.partition(".")[0] == own_name(weights.component)
        }
        if weights.component is None and not weights.partial and not any(own in named for own in expected):
            self.notes.append(
                f"{weights.label} holds none of the frozen tensors by name and was not compared"
            )
            return
        for own, tensor in expected.items():
            place = named.get(own)
            if place is not None:
                self._add(self._compare(tensor, place, weights.label))
            elif not weights.partial and (weights.component is not None or _head(own) in map(_head, named)):
                self._add(TensorCheck(tensor.name, "missing", weights.label))

    def _compare(self, tensor: FrozenTensor, place: TensorPlace, where: str) -> TensorCheck:
        if place.kind is None:
            note = f"stored as {place.dtype}, which is quantised: open the model unquantised"
            return TensorCheck(tensor.name, "not checkable", where, note=note)
        if place.shape != tensor.shape:
            note = f"has shape {place.shape}, the mask's is {tensor.shape}"
            return TensorCheck(tensor.name, "not checkable", where, note=note)
        form = matching_form(tensor, place.kind, place.pieces)
        if form is not None:
            return TensorCheck(tensor.name, "untouched", where, form=form)
        before = self._before(tensor)
        if before is None:
            return TensorCheck(tensor.name, "changed", where)
        moved = difference(place, before)
        note = "" if moved.max_abs is not None else "holds values that are not finite"
        return TensorCheck(
            tensor.name,
            "changed",
            where,
            max_abs=moved.max_abs,
            relative=moved.relative,
            rank=moved.rank,
            note=note,
        )

    def _before(self, tensor: FrozenTensor) -> TensorPlace | None:
        """The base's tensor, if there is a base; UserError where that is not what the mask froze."""
        if self.base is None:
            return None
        place = self.base.get(own_name(tensor.name))
        if place is None or place.kind is None or place.shape != tensor.shape:
            raise UserError(f"base: has no tensor '{tensor.name}' {tensor.shape}; give the mask's base")
        if matching_form(tensor, place.kind, place.pieces) is None:
            raise UserError(
                f"{place.file}: its tensor '{tensor.name}' is not what the mask froze; give the mask's base, "
                f"{self.mask.base.source}"
            )
        return place

    # -- adapters
    def adapter(self, adapter: AdapterFile) -> None:
        """Check an adapter file's layers and full copies against the frozen tensors."""
        unknown = list(adapter.unknown)
        for layer in adapter.layers:
            names = self.targets.of_layer(layer.name)
            for name in names:
                if own_name(name) in self.frozen:
                    self._adapted(self.frozen[own_name(name)], layer, adapter)
            if not names and not self._elsewhere(layer.name, adapter):
                unknown.append(layer.name)
        for key, place in adapter.copies.items():
            names = self.targets.of_copy(key)
            for name in names:
                if own_name(name) in self.frozen:
                    self._add(self._compare(self.frozen[own_name(name)], place, adapter.path.name))
            if not names and not self._elsewhere(key, adapter):
                unknown.append(key)
        if unknown:
            shown = ", ".join(one_line(key)[:80] for key in unknown[:_SHOWN])
            self.unclear.append(
                f"{adapter.path.name}: {len(unknown)} keys name no layer of the mask's model: {shown}"
                + (", ..." if len(unknown) > _SHOWN else "")
            )

    def _adapted(self, tensor: FrozenTensor, layer: Layer, adapter: AdapterFile) -> None:
        bias = tensor.name.endswith(".bias")
        if not (layer.on_bias if bias else layer.on_weight):
            return
        where = adapter.path.name
        if layer.adds_nothing():
            note = "its adapter is zero and adds nothing"
            self._add(TensorCheck(tensor.name, "untouched", where, note=note))
            return
        note = "an adapter on a frozen tensor (" + ", ".join(sorted(layer.parts)) + ")"
        moves = layer.moves_by(adapter.config, tensor.size)
        if moves is None or not math.isfinite(moves[1]):
            self._add(TensorCheck(tensor.name, "changed", where, note=note))
            return
        largest, norm, rank = moves
        before = self._before(tensor)
        whole = 0.0 if before is None else sum(float(p.double().square().sum()) for p in before.pieces())
        relative = norm / whole**0.5 if whole > 0 else None
        self._add(TensorCheck(tensor.name, "changed", where, None, largest, relative, rank, note))

    def _elsewhere(self, name: str, adapter: AdapterFile) -> bool:
        if not self.targets.elsewhere(name, self.mask.base.kind):
            return False
        note = f"{adapter.path.name} adapts components that the mask does not cover"
        if note not in self.notes:
            self.notes.append(note)
        return True

    # -- what is in no file
    def rest(self) -> None:
        """Say of every frozen tensor that no file holds whether that means untouched or missing."""
        left = [tensor for tensor in self.mask.frozen if tensor.name not in self._seen]
        form = self.checkpoint.form
        if form == "delta" and left and self.checkpoint.base_fingerprint != self.mask.base.fingerprint:
            self._under(left)
            return
        for tensor in left:
            if form in ("adapter", "delta"):
                note = "not among what the file changes"
                self._add(TensorCheck(tensor.name, "untouched", self.checkpoint.path.name, note=note))
            else:
                self._add(TensorCheck(tensor.name, "missing", self.checkpoint.path.name))

    def _under(self, left: list[FrozenTensor]) -> None:
        """Look up what a delta of another base leaves as it is in that base."""
        base = underlay(self.checkpoint)
        if base is None:
            self.unclear.append(
                f"{self.checkpoint.path.name}: is a delta of another base than the mask's "
                f"({str(self.checkpoint.base_fingerprint)[:12]}... for {self.mask.base.fingerprint[:12]}...) "
                "which is not on this disk; give the model saved whole"
            )
            for tensor in left:
                note = "in the delta's base, which is not here"
                self._add(TensorCheck(tensor.name, "not checkable", self.checkpoint.path.name, note=note))
            return
        for tensor in left:
            found = [
                (place, weights.label)
                for weights in base.weights
                if (place := weights.named(self.mask.names).get(own_name(tensor.name))) is not None
            ]
            for place, label in found:
                self._add(self._compare(tensor, place, f"base of the delta, {label}"))
            if not found:
                self._add(TensorCheck(tensor.name, "missing", "base of the delta"))

    def _add(self, check: TensorCheck) -> None:
        self.checks.append(check)
        self._seen.add(check.name)
        if self._progress is not None:
            self._progress(len(self._seen), len(self.frozen))


def _base(base: Path | str, mask: Mask) -> dict[str, TensorPlace]:
    """A base's tensors by name; UserError where it is no whole model."""
    opened = open_checkpoint(base)
    if opened.form not in ("pipeline", "weights"):
        raise UserError(f"{base}: holds {opened.form} alone; give the mask's base as a whole model")
    found: dict[str, TensorPlace] = {}
    for weights in opened.weights:
        for name, place in weights.named(mask.names).items():
            found.setdefault(name, place)
    return found


def _within(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) and file != root else file.name


def _head(name: str) -> str:
    return name.partition(".")[0]
