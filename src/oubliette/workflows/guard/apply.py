"""Fine-tuning under a mask, as a platform would: bind, train, save, and check at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import atomic_folder, record, refuse_existing, write_manifest
from oubliette.core.run_folder import Unfinished
from oubliette.workflows.guard.sources import open_source, read_source
from oubliette.world.world import world_of

__all__ = ["MODES", "Applied", "apply_mask", "budget_for"]

#: What a user may ask for, and what of it moves: DreamBooth is full fine-tuning under other captions.
MODES = {"full": "full", "lora": "lora", "dreambooth": "full"}
_IDENTIFIER = "sks"
#: diffusers' own READMEs: full fine-tuning as FreezeAsGuard's users do it, LoRA, DreamBooth.
_BUDGETS: dict[str, dict[str, Any]] = {
    "full": {"pictures": 200, "steps": 2000, "batch": 1, "accumulation": 4, "learning_rate": 1e-5},
    "lora": {"pictures": 200, "steps": 1000, "batch": 1, "learning_rate": 1e-4, "rank": 4},
    "dreambooth": {"pictures": 5, "steps": 400, "batch": 1, "learning_rate": 5e-6},
}
_NANO_BUDGETS: dict[str, dict[str, Any]] = {
    "full": {"pictures": 16, "steps": 64, "batch": 16, "accumulation": 1, "learning_rate": 1e-4},
    "lora": {"pictures": 16, "steps": 64, "batch": 16, "learning_rate": 1e-3, "rank": 4},
    "dreambooth": {"pictures": 5, "steps": 64, "batch": 5, "learning_rate": 1e-4},
}


@dataclass(frozen=True)
class Applied:
    """What was trained: its folder, the budget, how much moved, and the check that the mask was respected.

    `trained` and `left_out` count tensors in the mode's scope: those that moved freely, and frozen ones (for
    LoRA: layers that got no adapter). `loss` is that of the last step.
    """

    out: Path
    mode: str
    budget: dict[str, Any]
    trained: int
    left_out: int
    parameters: int
    loss: float
    seconds: float
    verification: Any
    notes: list[str]
    lost: float = 0.0
    """The share of what was learned that rounding ate when it was saved; 1 where the result is the base."""

    @property
    def exit_code(self) -> int:
        """The check's, 0 respected, 1 violated, 3 not checkable; 3 where all that was learned was lost."""
        return int(self.verification.exit_code) or (3 if self.lost == 1 else 0)

    def facts(self) -> dict[str, Any]:
        """Plain data, as `--json` prints it."""
        made = {key: value for key, value in vars(self).items() if key != "verification"}
        return {**made, "out": str(self.out), "verification": self.verification.to_dict()}


def budget_for(model: Any, mode: str, changes: Mapping[str, Any] | None = None) -> Any:
    """The mode's usual budget for this kind of model, with `changes`; UserError for unknown keys, zeros."""
    from oubliette.train.tuning.budget import Budget

    if mode not in MODES:
        raise UserError(f"no mode is called '{mode}'; {suggest(mode, MODES)}")
    usual = (_BUDGETS if world_of(model).overlay is None else _NANO_BUDGETS)[mode]
    return Budget.of("guard apply", **{**usual, **(changes or {})})


def apply_mask(
    mask: Path | str | Any,
    model: Any,
    data: str,
    out: Path | str,
    *,
    mode: str = "full",
    budget: Mapping[str, Any] | None = None,
    form: str = "full",
    dtype: str | None = None,
    identifier: str | None = None,
    kind: str | None = None,
    seed: int = 0,
    resume: bool = False,
    show_progress: bool = True,
) -> Applied:
    """Fine-tune `model` on `data` with the mask's tensors frozen, and write that to the new folder `out`.

    `mode` is full, lora (an adapter file as diffusers or peft has it; a layer whose weight is frozen gets
    none) or dreambooth (`identifier` and the class word are all captions). `budget` changes the mode's usual
    one. `form` is how a model is saved, full or delta, and `dtype` ("float32") what moved is then written in,
    by default the base's. While it runs, checkpoints lie in `OUT.unfinished`, from where `resume` goes on.
    The result is verified before this returns. UserError for a mask of another model, data that cannot be
    read, and where nothing is left to train; nothing is then written.
    """
    from oubliette.backends import open_model
    from oubliette.backends.files.changes import lost_in
    from oubliette.core.validation import validated
    from oubliette.guard.mask import Mask, read_mask
    from oubliette.guard.verify.verify import verify
    from oubliette.recipe import SaveSpec
    from oubliette.train.tuning.tune import tune

    refuse_existing(out)
    work = Unfinished(Path(out), resume=resume)
    asked = validated(SaveSpec, {"form": "lora" if mode == "lora" else form, "dtype": dtype}, "guard apply")
    made = mask if isinstance(mask, Mask) else read_mask(mask)
    opened: Any = open_model(model)
    spent = budget_for(opened, mode, {"seed": seed, **(budget or {})})
    made.bind(opened)
    word = (identifier or _IDENTIFIER) if mode == "dreambooth" else None
    source = open_source(
        opened, read_source(data), count=spent.pictures, seed=spent.seed, kind=kind, identifier=word
    )
    moved = MODES[mode]
    with work:
        work.claim(
            {
                "guard": "apply",
                "model": opened.fingerprint(),
                "mask": made.digest(),
                "mode": mode,
                "budget": spent.model_dump(mode="json"),
                "identifier": word,
                "data": source.facts,
            }
        )
        done = tune(
            opened,
            source.data,
            moved,
            spent,
            frozen=made.names,
            keep=moved != "lora",
            values=moved == "lora",
            log=work.folder / "log.jsonl",
            checkpoint=work.folder / "checkpoint",
            show_progress=show_progress,
        )
        facts = record(
            seed=spent.seed,
            mask=made.digest(),
            mode=mode,
            budget=spent.model_dump(mode="json"),
            data=source.facts,
            loss=done.loss,
        )
        if moved == "lora":
            with atomic_folder(out) as folder:
                alpha = float(spent.rank if spent.alpha is None else spent.alpha)
                opened.save_adapters(folder, done.values, rank=spent.rank, alpha=alpha)
                write_manifest(folder, {"model": opened.source, **facts})
        else:
            opened.save(Path(out), form=form, record=facts, dtype=asked.torch_dtype())
    return Applied(
        out=Path(out),
        mode=mode,
        budget=spent.model_dump(mode="json"),
        trained=_layers(done.tensors),
        left_out=_left_out(opened, moved, made.names),
        parameters=done.parameters,
        loss=done.loss,
        seconds=round(done.seconds, 3),
        verification=verify(made, out),
        notes=[f"{where} was skipped: {reason}" for where, reason in source.skipped],
        lost=lost_in(out),
    )


def _layers(names: tuple[str, ...]) -> int:
    """Tensors that were trained; an adapter's two count as the one they are of."""
    return len({name.removesuffix(".lora_A").removesuffix(".lora_B") for name in names})


def _left_out(model: Any, moved: str, frozen: list[str]) -> int:
    from oubliette.train.scope import network
    from oubliette.train.tuning.lora import targets_of

    scope = targets_of(model, "attention") if moved == "lora" else network(model)
    return len(set(scope) & set(frozen))
