"""Receler: its adapters written out, its adversary, its region, and that the teacher never sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.attention import attention_layers
from oubliette.erase.diffusion.receler import Receler, appended, outside, region
from oubliette.erase.diffusion.receler_adapters import RecelerAdapters
from oubliette.erase.prepare import prepare
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.weights import Weights

FAST = {"trajectory_steps": 3, "rank": 4, "adversary_steps": 2, "adversary_tokens": 2, "map_side": 4}


class Attached:
    """The method set up on a tiny model, its adapters nudged from where they do nothing."""

    def __init__(self, nudge: float = 0.3, scope: list[str] | None = None, **options) -> None:
        self.model, asked = tiny_erasure.backend(), tiny_erasure.request()
        self.data = prepare(self.model, asked, seed=1, show_progress=False)
        self.method = Receler(Receler.Options(**(FAST | options)), asked)
        names = self.model.text_facing() if scope is None else scope
        self.adapters = self.method.attachment(self.model, self.data, names)
        self.weights = Weights(self.adapters.tensors())
        self.method.setup(self.model, self.data, self.weights, 3)
        rng = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for weight in self.weights.parameters:
                weight.add_(nudge * torch.randn(weight.shape, generator=rng))

    def draw(self, step: int = 0, batch: int = 2):
        from oubliette.train.gradients import micro_batch_rng

        draw = self.method.draw(step, micro_batch_rng(7, step, 0), batch)
        self.method.before(step, draw)
        return draw


def inputs(model, count: int = 2, prompt: str = "a car"):
    noisy = torch.randn(count, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    return noisy, torch.full((count,), 7), model.encode_text([prompt] * count)


def test_untrained_adapters_are_the_identity_bit_for_bit() -> None:
    case = Attached(nudge=0.0)
    plain = case.model.predict(*inputs(case.model))
    with case.adapters.active(case.model):
        assert torch.equal(case.model.predict(*inputs(case.model)), plain)
    drawn = case.model.draw(["a car"], [1], steps=3)
    case.model.attach(case.adapters)
    assert (case.model.draw(["a car"], [1], steps=3) == drawn).all()


def test_an_adapter_is_two_linear_layers_around_a_gelu() -> None:
    case = Attached()
    layer, width = case.adapters.layers[0], 16
    weights = case.adapters.tensors()
    down, up = nn.Linear(width, 4), nn.Linear(4, width)
    for module, part in ((down, "down"), (up, "up")):
        module.load_state_dict({kind: weights[f"{layer}.{part}.{kind}"] for kind in ("weight", "bias")})
    output = torch.randn(2, 9, width)
    torch.testing.assert_close(case.adapters.added(layer, output), up(nn.functional.gelu(down(output))))


def test_they_stand_behind_each_attention_of_the_scope_and_leave_with_the_block() -> None:
    case = Attached()
    layers = attention_layers(case.model)
    assert case.adapters.layers == list(layers)
    one = Attached(scope=case.model.text_facing()[:1])
    assert one.adapters.layers == list(layers)[:1]
    seen: list[torch.Tensor] = []
    plain = case.model.predict(*inputs(case.model))
    with case.adapters.active(case.model, seen=seen):
        assert not torch.equal(case.model.predict(*inputs(case.model)), plain)
    assert len(seen) == len(layers)
    assert torch.equal(case.model.predict(*inputs(case.model)), plain)
    with pytest.raises(UserError, match="use scope xattn-kv"):
        Attached(scope=["unet.conv_in.weight"])


def test_in_drawing_the_empty_half_stays_the_models_own() -> None:
    case = Attached()
    noisy, t, text = inputs(case.model)
    case.model.attach(case.adapters)
    guide = case.model.guide(["a car"] * 2, guidance=2.5, steps=4)
    blank = case.model.predict(noisy, t, case.model.unconditional(2))
    with case.adapters.active(case.model):
        full = case.model.predict(noisy, t, text)
    torch.testing.assert_close(guide(0, t[0], noisy), blank + 2.5 * (full - blank), rtol=1e-4, atol=1e-5)
    alone = case.model.guide(["a car"] * 2, guidance=1.0, steps=4)
    torch.testing.assert_close(alone(0, t[0], noisy), full, rtol=1e-4, atol=1e-5)


def test_the_teacher_never_sees_them() -> None:
    near, far = Attached(nudge=0.0, adversary_steps=0), Attached(nudge=1.0, adversary_steps=0)
    one, other = near.draw(), far.draw()
    for entry in ("noisy", "goal", "concept", "inside"):
        assert torch.equal(one[entry], other[entry]), entry
    empty = far.model.predict(other["noisy"], other["t"], far.model.unconditional(2))
    wanted = empty - 1.0 * (other["concept"] - empty)
    torch.testing.assert_close(other["goal"], wanted, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_attacked_prompt_and_of_what_is_added_elsewhere() -> None:
    case = Attached(localisation=0.7)
    draw = case.draw()
    hidden = torch.cat([case.model.encode_text(["car"] * 2).hidden, draw["adversary"]], dim=1)
    assert hidden.shape[1] == 16 + 2
    added: list[torch.Tensor] = []
    with case.adapters.active(case.model, seen=added):
        out = case.model.pipe.unet(draw["noisy"], draw["t"], encoder_hidden_states=hidden).sample
    wanted = (out - draw["goal"]).square().mean() + 0.7 * outside(added, draw["inside"])
    torch.testing.assert_close(case.method.loss("forget", draw), wanted)
    assert set(case.method.report()) == {"erasing", "outside", "restored"}


def test_the_adversary_brings_the_concept_nearer_and_moves_nothing_else() -> None:
    case = Attached(adversary_steps=8)
    before = {name: tensor.clone() for name, tensor in case.adapters.tensors().items()}
    start = case.method.draw(0, torch.Generator().manual_seed(1), 2)
    first = start["adversary"].clone()
    case.method.before(0, draw := start)

    def gap(rows: torch.Tensor) -> float:
        with torch.no_grad(), case.adapters.active(case.model):
            out = case.model.predict(draw["noisy"], draw["t"], appended(draw["text"], rows))
        return float((out - draw["concept"]).square().mean())

    assert gap(draw["adversary"]) < gap(first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in case.adapters.tensors().items())


def test_the_region_is_where_a_map_of_zero_to_one_exceeds_the_threshold() -> None:
    maps = torch.tensor([[[2.0, 2.1], [2.05, 3.0]], [[5.0, 5.0], [5.0, 5.0]]])
    assert region(maps, 0.1).tolist() == [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    assert region(maps, 0.07)[0].tolist() == [[0, 1], [0, 1]]


def test_what_is_added_counts_outside_the_region_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    added = [torch.randn(2, 16, 3, generator=rng), torch.randn(2, 4, 5, generator=rng)]
    inside = torch.zeros(2, 4, 4)
    inside[0, :2, :2] = 1
    by_hand = []
    for each in added:
        side = round(each.shape[1] ** 0.5)
        total = 0.0
        for item in range(2):
            for pixel in range(side * side):
                row, column = pixel // side * 4 // side, pixel % side * 4 // side
                if not inside[item, row, column]:
                    total += float(each[item, pixel].square().sum())
        by_hand.append(total / each.numel())
    torch.testing.assert_close(outside(added, inside), torch.tensor(sum(by_hand) / 2))


def test_a_resumed_run_ends_in_the_same_adapters(tmp_path: Path) -> None:
    def loop(steps: int, folder: Path) -> Loop:
        case = Attached(nudge=0.0)
        config = TrainConfig(steps=steps, batch=2, learning_rate=1e-2, checkpoint_every=2)
        return Loop(
            case.model,
            case.method,
            case.data,
            case.weights,
            config,
            checkpoint=folder,
            show_progress=False,
        )

    whole = loop(4, tmp_path / "whole")
    whole.run()
    killed = loop(4, tmp_path / "killed")
    killed.advance(2)
    resumed = loop(4, tmp_path / "killed")
    resumed.load_checkpoint()
    resumed.run()
    for one, other in zip(whole.weights.parameters, resumed.weights.parameters, strict=True):
        assert torch.equal(one, other)
        assert float(one.detach().abs().max()) > 0


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    case = Attached()
    tensors = {name: tensor.detach() for name, tensor in case.adapters.tensors().items()}
    again = RecelerAdapters.build({"rank": 4}, tensors)
    assert again.layers == sorted(case.adapters.layers)
    layer = case.adapters.layers[0]
    broken = {name: tensor for name, tensor in tensors.items() if name != f"{layer}.up.bias"}
    for settings, given in (({}, tensors), ({"rank": 4}, {}), ({"rank": 5}, tensors), ({"rank": 4}, broken)):
        with pytest.raises(UserError, match="attachment 'receler'"):
            RecelerAdapters.build(settings, given)
    foreign = {name.replace("down_blocks.0", "down_blocks.7"): tensor for name, tensor in tensors.items()}
    model = DiffusionBackend.from_pipeline(tiny.pipeline())
    model.attach(RecelerAdapters.build({"rank": 4}, foreign))
    with pytest.raises(UserError, match="was made for a model with the layer"):
        model.draw(["a car"], [1], steps=2)
