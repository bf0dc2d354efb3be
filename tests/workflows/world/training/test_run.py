"""A training that is stopped and started again ends in the same bits; a fork goes on where its stem ended."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oubliette.workflows.world.training.run import Run, fork, save_atomic, train


def _module() -> nn.Module:
    torch.manual_seed(0)
    # BatchNorm has buffers, which belong to the state as well.
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))


def _run(folder: Path, module: nn.Module, steps: int, **options: object) -> Run:
    how: dict = {"learning_rate": 1e-2, "warm_up": 3, "ema": 0.9, "every": 4, **options}
    return Run(folder, {"net": module}, steps=steps, **how)


def _loss_at(module: nn.Module, stop: int | None = None):  # type: ignore[no-untyped-def]
    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        if step == stop:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return (module(x) - x.sum(1, keepdim=True)).square().mean(), {}

    return loss_at


def _bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("stop", [4, 6, 11])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole = _module()
    train(_run(tmp_path / "whole", whole, 12), _loss_at(whole))
    halted = _module()
    with pytest.raises(KeyboardInterrupt):
        train(_run(tmp_path / "parts", halted, 12), _loss_at(halted, stop))
    with torch.no_grad():
        again = _module()
        for parameter in again.parameters():
            parameter.add_(1.0)  # a resumed run takes nothing from what the module held
    run = _run(tmp_path / "parts", again, 12)
    assert run.at == stop // 4 * 4  # the last checkpoint
    train(run, _loss_at(again))
    for name, value in _bits(whole).items():
        assert torch.equal(value, _bits(again)[name]), name
    one, two = (load_file(tmp_path / folder / "state.safetensors") for folder in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    module = _module()
    train(_run(tmp_path, module, 4), _loss_at(module))
    again = _module()
    train(_run(tmp_path, again, 4), _loss_at(again, stop=0))
    assert all(torch.equal(a, b) for a, b in zip(_bits(module).values(), _bits(again).values(), strict=True))


def test_a_fork_goes_on_from_its_stem_as_if_never_parted(tmp_path: Path) -> None:
    whole = _module()
    train(_run(tmp_path / "whole", whole, 12), _loss_at(whole))
    stem = _module()
    train(_run(tmp_path / "stem", stem, 5, total=12), _loss_at(stem))
    fork(tmp_path / "stem", tmp_path / "branch")
    branch = _module()
    run = _run(tmp_path / "branch", branch, 12)
    assert run.at == 5
    train(run, _loss_at(branch))
    for name, value in _bits(whole).items():
        assert torch.equal(value, _bits(branch)[name]), name


def test_a_fork_that_has_gone_on_is_not_set_back(tmp_path: Path) -> None:
    stem = _module()
    train(_run(tmp_path / "stem", stem, 4, total=8), _loss_at(stem))
    fork(tmp_path / "stem", tmp_path / "branch")
    branch = _module()
    train(_run(tmp_path / "branch", branch, 8), _loss_at(branch))
    fork(tmp_path / "stem", tmp_path / "branch")
    assert _run(tmp_path / "branch", _module(), 8).at == 8


def test_the_schedule_warms_up_holds_and_decays_to_two_percent(tmp_path: Path) -> None:
    run = _run(tmp_path, _module(), 1000, learning_rate=1.0, warm_up=100, decay_from=0.5)
    rates = []
    for step in range(1001):
        run.at = step
        rates.append(run._rate())
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == pytest.approx(1.0)
    assert rates[100] == rates[499] == 1.0
    assert rates[750] == pytest.approx(0.02 + 0.98 * 0.5)  # half way down the cosine
    assert rates[1000] == pytest.approx(0.02)
    assert rates[499:] == sorted(rates[499:], reverse=True)


def test_a_stem_follows_the_longer_schedule(tmp_path: Path) -> None:
    stem = _run(tmp_path / "stem", _module(), 500, warm_up=10, total=1000)
    whole = _run(tmp_path / "whole", _module(), 1000, warm_up=10)
    for step in (0, 5, 100, 499):
        stem.at = whole.at = step
        assert stem._rate() == whole._rate()


def test_the_average_is_the_recurrence(tmp_path: Path) -> None:
    module = _module()
    run = _run(tmp_path, module, 6)
    expected = [p.detach().double().clone() for p in module.parameters()]
    for step in range(6):
        run.step(_loss_at(module)(step)[0])
        decay = min(0.9, (step + 1) / (step + 10))
        expected = [
            decay * a + (1 - decay) * p.detach().double()
            for a, p in zip(expected, module.parameters(), strict=True)
        ]
    run.load_average()
    for value, wanted in zip(module.parameters(), expected, strict=True):
        assert torch.allclose(value.double(), wanted, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    module = _module()
    before = _bits(module)
    run = _run(tmp_path, module, 3)
    loss = next(module.parameters()).sum() * math.nan
    with pytest.raises(RuntimeError, match="nan at step 0"):
        run.step(loss)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


def test_the_log_is_json_lines(tmp_path: Path) -> None:
    module = _module()
    train(_run(tmp_path, module, 60), _loss_at(module))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 60]
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_saving_leaves_no_draft(tmp_path: Path) -> None:
    save_atomic({"a": torch.arange(6).reshape(2, 3).T}, tmp_path / "deep" / "x.safetensors", {"k": "v"})
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.safetensors"]
    stored = load_file(tmp_path / "deep" / "x.safetensors")["a"]
    assert torch.equal(stored, torch.arange(6).reshape(2, 3).T)
