"""A mask in transformers' Trainer: when it freezes, what it refuses, and that it looks before a save."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

import tiny_language
from guard.enforcing import HashedMask, values
from oubliette.core.errors import UserError
from oubliette.guard.enforce.callback import GuardCallback
from oubliette.guard.enforce.watch import MaskViolated

FROZEN = ["model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"]


class Leak(TrainerCallback):
    """Moves a frozen tensor past the optimiser at a given step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_end(self, args, state, control, model=None, **rest):
        if state.global_step == self.at:
            model.model.norm.weight.data[0] += 1e-3


def trainer(
    folder: Path, callbacks: list, *, steps: int = 4, save: int = 0, model=None, optimizer=None
) -> Trainer:
    """Fits a tiny Llama to a few rows of tokens, with weight decay; `save` is how often to save."""
    rng = torch.Generator().manual_seed(0)
    rows = [
        {"input_ids": (ids := torch.randint(1, 300, (8,), generator=rng)), "labels": ids} for _ in range(8)
    ]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        weight_decay=0.1,
        save_strategy="steps" if save else "no",
        save_steps=save or 500,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    return Trainer(
        model=model or tiny_language.model("llama", 320),
        args=arguments,
        train_dataset=rows,
        callbacks=callbacks,
        optimizers=(optimizer, None),
    )


@pytest.fixture(autouse=True)
def _quick_collection():
    """Trainer collects garbage when it begins: seconds, over all that the libraries hold."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def mask():
    return HashedMask(tiny_language.model("llama", 320), FROZEN)


def unmoved(model, before) -> bool:
    held = dict(model.named_parameters())
    return all(torch.equal(held[name], before[name]) for name in FROZEN)


def test_frozen_before_the_optimiser_and_through_training(tmp_path, mask):
    guard = GuardCallback(mask, every=2)
    run = trainer(tmp_path, [guard], save=3)
    before = values(run.model)
    run.train()
    held = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    frozen = [dict(run.model.named_parameters())[name] for name in FROZEN]
    assert not held & {id(p) for p in frozen}  # Trainer built it from what requires a gradient
    assert unmoved(run.model, before)
    assert not torch.equal(run.model.lm_head.weight, before["lm_head.weight"])
    assert (tmp_path / "checkpoint-3").is_dir()
    run.train()  # and once more
    assert unmoved(run.model, before)
    guard.release()
    assert all(p.requires_grad for p in run.model.parameters())


def test_a_callback_that_came_late_freezes_all_the_same(tmp_path, mask):
    run = trainer(tmp_path, [])
    before = values(run.model)
    run.add_callback(GuardCallback(mask))
    run.train()
    held = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert (
        id(run.model.model.norm.weight) in held
    )  # the optimiser was there first; it skips what has no gradient
    assert unmoved(run.model, before)


def test_several_processes_need_it_from_the_start(mask):
    class TwoProcesses:
        world_size = 2

    guard = GuardCallback(mask)
    with pytest.raises(UserError, match=r"give it as Trainer\(callbacks=\[GuardCallback\(mask\)\]\)"):
        guard.on_train_begin(TwoProcesses(), None, None, model=tiny_language.model("llama", 320))


def test_the_users_own_optimiser_over_everything_is_held(tmp_path, mask):
    model = tiny_language.model("llama", 320)
    before = values(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9, weight_decay=0.1)
    trainer(tmp_path, [GuardCallback(mask)], model=model, optimizer=optimizer).train()
    assert unmoved(model, before)


def test_a_moved_tensor_ends_the_training_before_it_is_saved(tmp_path, mask):
    run = trainer(tmp_path, [Leak(2), GuardCallback(mask)], save=3)
    with pytest.raises(MaskViolated, match=r"after step 3: model\.norm\.weight \(changed\)"):
        run.train()
    assert not (tmp_path / "checkpoint-3").exists()
    with pytest.raises(MaskViolated, match="after step 2"):
        trainer(tmp_path, [Leak(1), GuardCallback(mask, every=2)], steps=3).train()
    with pytest.raises(MaskViolated, match="after step 1"):  # the last look, at the end
        trainer(tmp_path, [Leak(1), GuardCallback(mask)], steps=1).train()


def test_restoring_goes_on(tmp_path, mask):
    run = trainer(tmp_path, [Leak(1), GuardCallback(mask, every=2, restore=True)])
    before = values(run.model)
    with pytest.warns(UserWarning, match="put back after step 2"):
        run.train()
    assert unmoved(run.model, before)


def test_another_model_is_refused_when_the_trainer_is_made(tmp_path, mask):
    with pytest.raises(UserError, match="not as the mask's base has them"):
        trainer(tmp_path, [GuardCallback(mask)], model=tiny_language.model("llama", 320, seed=1))
