"""Training a low-rank difference: held to peft's LoRA layers, to its rank, to resuming."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oubliette.core.errors import UserError
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.low_rank import LowRank, matrices_in
from oubliette.train.smoothing import Sam

from .models import MlpBackend, TwoTasks

CONFIG = TrainConfig(steps=6, batch=4, learning_rate=1e-2, weight_decay=0.01)


def loop_of(model: MlpBackend, rank: int = 2, **options) -> Loop:
    weights = LowRank(model.tensors(), rank=rank, alpha=3.0, seed=5)
    return Loop(model, TwoTasks(), None, weights, CONFIG, show_progress=False, **options)


def test_an_update_is_that_of_pefts_layers() -> None:
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    layer = nn.Linear(6, 5, bias=False)
    start = layer.weight.detach().clone()
    inputs, goal = torch.randn(8, 6), torch.randn(8, 5)
    weights = LowRank({"it": layer.weight}, rank=2, alpha=3.0, seed=1)
    masters = weights.masters()
    first = masters.tensors[0].detach().clone()
    mine = torch.optim.AdamW(masters.tensors, lr=0.05)
    for _ in range(5):
        (gradient,) = torch.autograd.grad(nn.functional.mse_loss(layer(inputs), goal), [layer.weight])
        masters.take([gradient])
        mine.step()
        masters.push()
    holder = nn.Sequential(nn.Linear(6, 5, bias=False))
    with torch.no_grad():
        holder[0].weight.copy_(start)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=3, target_modules=["0"]), holder)
    down, up = holder[0].lora_A["default"].weight, holder[0].lora_B["default"].weight
    with torch.no_grad():
        down.copy_(first)
        up.zero_()
    theirs = torch.optim.AdamW([down, up], lr=0.05)
    for _ in range(5):
        theirs.zero_grad()
        nn.functional.mse_loss(holder(inputs), goal).backward()
        theirs.step()
    merged = start + 1.5 * up @ down
    assert torch.allclose(layer.weight, merged, atol=1e-6)


def test_what_moved_has_the_rank_and_nothing_else_moves() -> None:
    model = MlpBackend()
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    loop_of(model).run()
    for name, tensor in model.tensors().items():
        moved = tensor.detach() - before[name]
        if tensor.ndim < 2:
            assert torch.equal(tensor, before[name])
        else:
            assert torch.linalg.matrix_rank(moved.flatten(1), rtol=1e-4) == min(2, *moved.flatten(1).shape)


def test_a_convolution_moves_by_a_product_over_channels_and_kernel() -> None:
    layer = nn.Conv2d(3, 4, 3)
    weights = LowRank({"it": layer.weight}, rank=1, seed=0)
    masters = weights.masters()
    assert [tuple(each.shape) for each in masters.tensors] == [(1, 27), (4, 1)]
    with torch.no_grad():
        masters.tensors[1].fill_(1.0)
    masters.push()
    moved = layer.weight.detach() - weights.original["it"]
    assert torch.allclose(moved.flatten(1), masters.tensors[0].expand(4, 27), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, dtype) -> None:
    def build(folder) -> tuple[MlpBackend, Loop]:
        model = MlpBackend(dtype=dtype)
        weights = LowRank(model.tensors(), rank=2, seed=5)
        objective = TwoTasks()
        for side in (objective.x, objective.y):
            side.update({role: values.to(dtype) for role, values in side.items()})
        loop = Loop(
            model,
            objective,
            None,
            weights,
            CONFIG,
            show_progress=False,
            checkpoint=folder,
            smoother=Sam(0.01),
        )
        return model, loop

    whole, loop = build(tmp_path / "a")
    loop.run()
    _, loop = build(tmp_path / "b")
    loop.advance(3)
    loop.save_checkpoint()
    resumed, loop = build(tmp_path / "b")
    loop.load_checkpoint()
    loop.run()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name])


def test_another_rank_is_another_run(tmp_path) -> None:
    loop = loop_of(MlpBackend(), checkpoint=tmp_path)
    loop.advance(1)
    loop.save_checkpoint()
    with pytest.raises(UserError, match="rank was 2, here it is 1"):
        loop_of(MlpBackend(), rank=1, checkpoint=tmp_path).load_checkpoint()


def test_a_scope_without_a_matrix_is_refused() -> None:
    with pytest.raises(UserError, match="no matrix"):
        matrices_in({"bias": nn.Parameter(torch.zeros(3))})
