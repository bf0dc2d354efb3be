"""A mask in transformers' Trainer: frozen before the optimiser is made, checked before anything is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from oubliette.core.errors import UserError
from oubliette.guard.enforce.enforce import Enforcement, enforce

if TYPE_CHECKING:
    from oubliette.guard.names import AnyMask

__all__ = ["GuardCallback"]


class GuardCallback(TrainerCallback):
    """Enforces a mask for as long as its Trainer lives: `Trainer(..., callbacks=[GuardCallback(mask)])`.

    The freeze happens in `on_init_end`: in transformers 5 `train()` makes the optimiser and wraps the model
    before `on_train_begin`. A callback added later, by `add_callback`, freezes there all the same, which an
    optimiser of torch respects but DistributedDataParallel does not: then it is refused. The frozen tensors
    are hashed when they are frozen, every `every` steps (0: never between), before each checkpoint and at the
    end; `restore` is as in `enforce`. Raises what `enforce` raises, and with that ends the training.
    """

    def __init__(self, mask: AnyMask, *, every: int = 0, restore: bool = False) -> None:
        self.handle: Enforcement | None = None
        """The enforcement, once there is a model."""
        self._mask, self._every, self._restore = mask, every, restore
        self._checked = -1

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        """Freeze, before there is an optimiser (with `model_init` the model comes later)."""
        if model is not None:
            self._begin(model)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **rest: Any
    ) -> None:
        """Freeze if that was not done for this model; refuse an optimiser that can move a frozen tensor."""
        if self.handle is None or self.handle.model is not model:
            if args.world_size > 1:
                raise UserError(
                    "the mask came after the model was wrapped for several processes: "
                    "give it as Trainer(callbacks=[GuardCallback(mask)]), not by add_callback or model_init"
                )
            self._begin(model)
        assert self.handle is not None
        self._checked = -1
        if optimizer is not None:
            self.handle.check(optimizer)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Check every so often, and whenever a checkpoint is to follow."""
        if control.should_save or (self._every and state.global_step % self._every == 0):
            self._check(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Check where a checkpoint is to follow."""
        if control.should_save:
            self._check(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Check where saving was decided after the step (the "best" strategy)."""
        self._check(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Check what will be saved; a best checkpoint has been loaded again by now."""
        self._checked = -1
        self._check(state.global_step)

    def release(self) -> None:
        """Let go of the model: `requires_grad` is as it was."""
        if self.handle is not None:
            self.handle.stop()
            self.handle = None

    def _begin(self, model: Any) -> None:
        self.release()
        self.handle = enforce(model, self._mask, restore=self._restore)
        self.handle.start()

    def _check(self, step: int) -> None:
        if self._checked == step:
            return
        assert self.handle is not None
        self.handle.settle(f" after step {step}")
        self._checked = step
