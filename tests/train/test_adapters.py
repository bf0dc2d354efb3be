"""Adapters as what moves: held to autograd on W + s B A, to their memory, to a dense projection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from oubliette.backends.layers import own
from oubliette.core.errors import UserError
from oubliette.train.adapters import Adapters, Merged, layers_in
from oubliette.train.config import TrainConfig
from oubliette.train.freeze import apply_freeze
from oubliette.train.loop import Loop
from oubliette.train.smoothing import Gp, NoSmoother, Rs, Sam
from oubliette.train.surgery import PCGrad, Project, Sum
from oubliette.train.weights import Weights

from .models import MlpBackend, TwoTasks

CONFIG = TrainConfig(steps=6, batch=4, accumulation=2, learning_rate=1e-2, weight_decay=0.01)
NAMES = ["net.first.weight", "net.second.weight"]


def adapters_of(model: Any, rank: int = 2, alpha: float = 3.0, **options: Any) -> Adapters:
    return Adapters(model, layers_in(model, model.tensors()), rank=rank, alpha=alpha, seed=5, **options)


def loop_of(model: Any, rank: int = 2, config: TrainConfig = CONFIG, **options: Any) -> Loop:
    return Loop(model, TwoTasks(), None, adapters_of(model, rank), config, show_progress=False, **options)


def nudged(weights: Adapters, size: float = 0.5) -> Adapters:
    """Adapters that have left their start."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.add_(size * torch.randn(parameter.shape, generator=rng))
    return weights


class Layers:
    """A backend around any module."""

    kind, source, world, device = "layers", "a test", None, torch.device("cpu")

    def __init__(self, **layers: nn.Module) -> None:
        self.net = nn.ModuleDict(layers).requires_grad_(False)

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def tensors(self) -> dict[str, Any]:
        return {f"net.{name}": tensor for name, tensor in own(dict(self.net.named_parameters())).items()}


def every_kind(dtype: torch.dtype = torch.float32) -> Layers:
    """One layer of each kind that takes an adapter."""
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    return Layers(
        linear=nn.Linear(6, 5, dtype=dtype),
        transposed=Conv1D(4, 6).to(dtype),
        convolution=nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=dtype),
        point=nn.Conv2d(3, 2, 1, dtype=dtype),
    )


INPUTS = {"linear": (7, 6), "transposed": (2, 3, 6), "convolution": (2, 3, 8, 8), "point": (2, 3, 4, 4)}


# -- the update ----------------------------------------------------------------------------------------------


class Explicit(nn.Module):
    """`Mlp` with dense weights W + s B A in its layers, of which A and B are the parameters."""

    def __init__(self, model: MlpBackend, start: Adapters) -> None:
        super().__init__()
        self.mlp = [model.net]
        self.base = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
        self.scale = start.alpha / start.rank
        self.factors = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(p.detach().clone())
                for name, p in zip(start.names, start.parameters, strict=True)
            }
        )
        self.shift: dict[str, Tensor] = {}

    def dense(self) -> dict[str, Tensor]:
        dense = dict(self.base)
        for name in NAMES:
            down, up = (self.factors[f"{name}.lora_{half}".replace(".", "/")] for half in "AB")
            dense[name] = self.base[name] + self.scale * up @ down + self.shift.get(name, 0)
        return dense

    def forward(self, x: Tensor) -> Tensor:
        dense = {name.removeprefix("net."): value for name, value in self.dense().items()}
        return functional_call(self.mlp[0], dense, x)


class ExplicitBackend(MlpBackend):
    def __init__(self) -> None:
        super().__init__()
        inner = MlpBackend()
        start = adapters_of(inner)
        start.close()
        self.net = Explicit(inner, start)

    def named(self) -> dict[str, nn.Parameter]:
        return {name.replace("/", "."): p for name, p in self.net.factors.items()}


class ExplicitWeights(Weights):
    """Climbs by a projection on the dense tangent space, made from the Jacobian of the product."""

    def __init__(self, module: Explicit, named: dict[str, nn.Parameter]) -> None:
        super().__init__(named)
        self.module = module

    def uphill(self, gradient: list[Tensor], length: float) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def block() -> Any:
            found = {}
            for index, name in enumerate(NAMES):
                down, up = (p.detach().double() for p in self.parameters[2 * index : 2 * index + 2])
                grads = torch.cat([g.double().flatten() for g in gradient[2 * index : 2 * index + 2]])
                found[name] = tangent(down, up, grads, self.module.scale)
            norm = float(torch.cat([each.flatten() for each in found.values()]).norm())
            self.module.shift = {name: (each * length / norm).float() for name, each in found.items()}
            try:
                yield norm
            finally:
                self.module.shift = {}

        return block()


def tangent(down: Tensor, up: Tensor, grads: Tensor, scale: float) -> Tensor:
    """The part of the dense gradient that moves of the factors can make: J (J' J)^+ J' g, J the Jacobian."""
    halves = torch.autograd.functional.jacobian(lambda a, b: scale * b @ a, (down, up))
    jacobian = torch.cat([half.reshape(up.shape[0] * down.shape[1], -1) for half in halves], dim=1)
    inverse = torch.linalg.pinv(jacobian.T @ jacobian, rtol=1e-10, hermitian=True)
    return (jacobian @ (inverse @ grads)).view(up.shape[0], down.shape[1])


@pytest.mark.parametrize("surgery", [Sum, Project, PCGrad])
@pytest.mark.parametrize(
    "smoother",
    [NoSmoother, lambda: Sam(0.05), lambda: Rs(0.05), lambda: Gp(0.1), lambda: Gp(0.1, "finite_diff")],
)
def test_a_run_is_that_of_autograd_on_the_explicit_product(
    surgery: Callable[[], Any], smoother: Callable[[], Any]
) -> None:
    model = MlpBackend()
    mine = loop_of(model, surgery=surgery(), smoother=smoother(), seed=2)
    mine.run()
    explicit = ExplicitBackend()
    weights = ExplicitWeights(explicit.net, explicit.named())
    parts = {"surgery": surgery(), "smoother": smoother(), "seed": 2}
    theirs = Loop(explicit, TwoTasks(), None, weights, CONFIG, show_progress=False, **parts)
    theirs.run()
    for name, one, two in zip(weights.names, mine.weights.parameters, weights.parameters, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4, msg=name)
    for one, two in zip(mine.records, theirs.records, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one.get("smoother", {}) == pytest.approx(two.get("smoother", {}), rel=1e-3)
    mine.weights.settled()
    for name, dense in explicit.net.dense().items():
        torch.testing.assert_close(
            model.tensors()[name], dense.detach(), atol=2e-5, rtol=1e-4, check_stride=False
        )


@pytest.mark.parametrize("kind", INPUTS)
def test_the_gradient_is_that_of_the_dense_weight_carried_over(kind: str) -> None:
    model = every_kind()
    original, x = (
        model.net[kind],
        torch.randn(INPUTS[kind]),
    )
    weights = nudged(adapters_of(model))
    down, up = (weights.parameters[weights.names.index(f"net.{kind}.weight.lora_{half}")] for half in "AB")
    dense = (weights.original[f"net.{kind}.weight"] + weights.delta()[f"net.{kind}.weight"]).requires_grad_()
    (by_hand,) = torch.autograd.grad(functional_call(original, {"weight": dense}, x).square().mean(), [dense])
    for parameter in (down, up):
        parameter.requires_grad_()
    found = torch.autograd.grad(model.net[kind](x).square().mean(), [down, up])
    flat = by_hand.T if kind == "transposed" else by_hand.flatten(1)
    torch.testing.assert_close(found[0].flatten(1), 1.5 * up.flatten(1).T @ flat, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1].flatten(1), 1.5 * flat @ down.flatten(1).T, atol=1e-5, rtol=1e-4)


def test_under_autocast_the_run_is_close_and_the_factors_stay_in_fp32() -> None:
    plain, cast = MlpBackend(), MlpBackend()
    one = loop_of(plain)
    two = loop_of(cast, config=CONFIG.model_copy(update={"precision": "bf16"}))
    one.run()
    two.run()
    assert {p.dtype for p in two.weights.parameters} == {torch.float32}
    for left, right in zip(one.weights.parameters, two.weights.parameters, strict=True):
        torch.testing.assert_close(left, right, atol=0.02, rtol=0.1)


def test_a_16_bit_base_keeps_its_bits_and_its_adapters_are_fp32() -> None:
    model = MlpBackend(dtype=torch.bfloat16)
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    weights = adapters_of(model)
    assert {p.dtype for p in weights.parameters} == {torch.float32}
    nudged(weights, 1e-5)
    assert model.net(torch.ones(1, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.tensors().items())
    change = {name: product.clone() for name, product in weights.delta().items()}
    settled = weights.settled()
    with settled.exact():
        for name, product in change.items():
            assert model.tensors()[name].dtype == torch.float32
            assert torch.equal(model.tensors()[name], before[name].float() + product)
    assert model.net.first.weight.dtype == torch.bfloat16


# -- memory --------------------------------------------------------------------------------------------------


class Wide(MlpBackend):
    """Matrices that are far larger than a batch, its activations and the adapters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net.first, self.net.second = nn.Linear(5, 7), nn.Linear(7, 3)
        self.net.first = nn.Sequential(nn.Linear(5, 400), nn.Linear(400, 300), nn.Linear(300, 7))
        self.net.requires_grad_(False)


class Largest(TorchDispatchMode):
    """The most elements that any tensor made inside has, in memory that was not there before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.made = max(self.made, tensor.numel())
        return found


def stored(tensors: list[Tensor]) -> int:
    """Bytes of the tensors' memory, each once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("smoother", [NoSmoother, lambda: Sam(0.05), lambda: Rs(0.05), lambda: Gp(0.1)])
def test_memory_above_the_base_is_that_of_adapters_gradients_and_moments(smoother: Callable[[], Any]) -> None:
    model = Wide()
    base = [tensor.detach() for tensor in model.tensors().values()]
    pointers = {t.data_ptr() for t in base}
    with Largest(base) as seen:
        loop = loop_of(model, surgery=Project(), smoother=smoother())
        with loop.weights.originals():
            model.net(torch.ones(2, 5))
        loop.advance(3)
    assert seen.made < 400 * 300 / 20  # no copy of a matrix, no gradient of one, no product
    assert {t.data_ptr() for t in model.tensors().values()} == pointers
    assert all(parameter.grad is None for parameter in model.net.parameters())
    adapters = stored([p.detach() for p in loop.weights.parameters])
    moments = [value for state in loop._optimizer.state.values() for value in state.values() if value.ndim]
    assert stored(moments) == 2 * adapters
    assert {t.data_ptr() for t in loop.weights.original.values()} <= pointers
    held = [p for p in model.net.parameters() if p.data_ptr() not in pointers]
    assert stored([p.detach() for p in held]) == adapters


def test_a_delta_is_made_a_product_at_a_time() -> None:
    model = Wide()
    weights = nudged(adapters_of(model))
    with Largest([]) as seen:
        delta = weights.delta()
        assert list(delta) == list(weights.original)
    assert seen.made == 0
    (name,) = (name for name in delta if delta[name].numel() == 400 * 300)
    down, up = (weights.parameters[weights.names.index(f"{name}.lora_{half}")] for half in "AB")
    torch.testing.assert_close(delta[name], 1.5 * up @ down)


# -- off, plain, scratch, settled ----------------------------------------------------------------------------


def outputs(model: Layers) -> list[Tensor]:
    rng = torch.Generator().manual_seed(4)
    return [model.net[kind](torch.randn(shape, generator=rng)) for kind, shape in INPUTS.items()]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(left, right, strict=True))


def test_originals_are_the_adapters_off_and_every_bit_returns() -> None:
    model = every_kind()
    names, before = list(model.tensors()), outputs(model)
    weights = adapters_of(model)
    assert list(model.tensors()) == names
    assert same(outputs(model), before)  # B is zero
    nudged(weights)
    now = outputs(model)
    assert not any(torch.equal(one, two) for one, two in zip(now, before, strict=True))
    bits = [parameter.detach().clone() for parameter in weights.parameters]
    weights.parameters[0].requires_grad_()
    flags = [parameter.requires_grad for parameter in weights.parameters]
    with weights.originals():
        assert same(outputs(model), before)
        with weights.originals():
            assert same(outputs(model), before)
        assert same(outputs(model), before)
    with pytest.raises(ZeroDivisionError), weights.originals():
        raise ZeroDivisionError
    assert same(outputs(model), now)
    assert same([p.detach() for p in weights.parameters], bits)
    assert [parameter.requires_grad for parameter in weights.parameters] == flags


@pytest.mark.parametrize("off", [False, True])
def test_scratch_begins_at_the_base_and_leaves_nothing(off: bool) -> None:
    model = every_kind()
    before = outputs(model)
    weights = nudged(adapters_of(model))
    now = outputs(model)
    with weights.originals() if off else nullcontext():
        with weights.scratch():
            assert same(outputs(model), before)
            nudged(weights)
            assert not same(outputs(model), before)
            with weights.originals():
                assert same(outputs(model), before)
        assert same(outputs(model), before if off else now)
    assert same(outputs(model), now)


def test_plain_has_the_models_own_layers_and_the_products_in_them() -> None:
    model = every_kind()
    kinds = {name: type(module) for name, module in model.net.named_modules()}
    weights = nudged(adapters_of(model))
    now = outputs(model)
    with weights.plain():
        assert {name: type(module) for name, module in model.net.named_modules()} == kinds
        for one, two in zip(outputs(model), now, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert same(outputs(model), now)


def test_settled_is_merged_into_the_weights_and_can_be_taken_back() -> None:
    model = every_kind()
    before, kinds = outputs(model), {name: type(module) for name, module in model.net.named_modules()}
    weights = nudged(adapters_of(model))
    product = {name: change.clone() for name, change in weights.delta().items()}
    original = {name: tensor.clone() for name, tensor in weights.original.items()}
    factors = {name: p.detach().clone() for name, p in zip(weights.names, weights.parameters, strict=True)}
    settled = weights.settled()
    assert isinstance(settled, Merged)
    assert {name: type(module) for name, module in model.net.named_modules()} == kinds
    assert not hasattr(model.net, "peft_config")
    assert settled.names == list(product)
    for name, change in product.items():
        assert torch.equal(model.tensors()[name], original[name] + change)
        assert torch.equal(settled.delta()[name], change)
    assert (settled.factors.rank, settled.factors.alpha) == (2, 3.0)
    assert all(torch.equal(settled.factors.values[name], factor) for name, factor in factors.items())
    now = outputs(model)
    with settled.originals():
        assert same(outputs(model), before)
        with settled.originals():
            assert same(outputs(model), before)
    assert same(outputs(model), now)
    settled.restore()
    assert same(outputs(model), before)


# -- climbing on the product ---------------------------------------------------------------------------------


def dense_gradients(weights: Adapters, gradient: dict[str, Tensor], scale: float) -> list[Tensor]:
    """A gradient of each product (out, in) as the factors see it."""
    found = []
    for name, down, up in zip(
        weights.original, weights.parameters[::2], weights.parameters[1::2], strict=True
    ):
        g = gradient[name]
        found += [
            (scale * up.detach().flatten(1).T @ g).view_as(down),
            (scale * g @ down.detach().flatten(1).T).view_as(up),
        ]
    return found


def shift_of(
    model: Layers, weights: Adapters, gradient: list[Tensor], length: float
) -> tuple[list[Tensor], float]:
    """What a climb adds to each layer's output, and the norm it says."""
    now = outputs(model)
    with weights.uphill(gradient, length) as norm:
        moved = outputs(model)
    assert same(outputs(model), now)
    return [one - two for one, two in zip(moved, now, strict=True)], norm


def test_a_climb_is_the_projection_of_the_dense_gradient_at_the_length_asked_for() -> None:
    model = every_kind()
    weights = nudged(adapters_of(model))
    rng = torch.Generator().manual_seed(8)
    gradient, wanted = {}, {}
    for name, down, up in zip(
        weights.original, weights.parameters[::2], weights.parameters[1::2], strict=True
    ):
        a, b = down.detach().flatten(1).double(), up.detach().flatten(1).double()
        g = torch.randn(len(b), a.shape[1], generator=rng)
        gradient[name] = g
        rows, columns = torch.linalg.pinv(a) @ a, b @ torch.linalg.pinv(b)
        wanted[name] = columns @ g.double() + (g.double() - columns @ g.double()) @ rows
    total = float(torch.cat([each.flatten() for each in wanted.values()]).norm())
    shifts, norm = shift_of(model, weights, dense_gradients(weights, gradient, 1.5), 0.7)
    assert norm == pytest.approx(total, rel=1e-5)
    inputs = torch.Generator().manual_seed(4)
    for (kind, shape), shift in zip(INPUTS.items(), shifts, strict=True):
        name = f"net.{kind}.weight"
        change = (wanted[name] * 0.7 / total).float()
        weight = change.T if kind == "transposed" else change.view_as(weights.original[name])
        layer = model.net[kind].get_base_layer()
        x = torch.randn(shape, generator=inputs)
        values = {"weight": weights.original[name] + weight}
        by_hand = functional_call(layer, values, x) - functional_call(
            layer, {"weight": weights.original[name]}, x
        )
        torch.testing.assert_close(shift, by_hand, atol=1e-5, rtol=1e-3)


def test_a_climb_does_not_see_how_a_product_is_split() -> None:
    model = every_kind()
    weights = nudged(adapters_of(model))
    rng = torch.Generator().manual_seed(8)
    gradient = {
        name: torch.randn(len(up), down[0].numel(), generator=rng)
        for name, down, up in zip(
            weights.original, weights.parameters[::2], weights.parameters[1::2], strict=True
        )
    }
    before, norm = shift_of(model, weights, dense_gradients(weights, gradient, 1.5), 0.7)
    with torch.no_grad():
        for down, up in zip(weights.parameters[::2], weights.parameters[1::2], strict=True):
            down.mul_(16.0)
            up.div_(16.0)
    after, again = shift_of(model, weights, dense_gradients(weights, gradient, 1.5), 0.7)
    assert again == pytest.approx(norm, rel=1e-5)
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-3)


def test_at_the_start_a_climb_moves_b_alone_and_without_a_slope_nothing() -> None:
    model = every_kind()
    weights = adapters_of(model)
    gradient = {
        name: torch.ones(len(up), down[0].numel())
        for name, down, up in zip(
            weights.original, weights.parameters[::2], weights.parameters[1::2], strict=True
        )
    }
    shifts, norm = shift_of(model, weights, dense_gradients(weights, gradient, 1.5), 0.1)
    assert norm > 0
    assert all(bool(shift.any()) for shift in shifts)
    shifts, norm = shift_of(model, weights, [torch.zeros_like(p) for p in weights.parameters], 0.1)
    assert norm == 0
    assert not any(bool(shift.any()) for shift in shifts)


# -- runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Any, dtype: torch.dtype) -> None:
    def build(folder: Any) -> tuple[MlpBackend, Loop]:
        model, objective = MlpBackend(dtype=dtype), TwoTasks()
        for side in (objective.x, objective.y):
            side.update({role: values.to(dtype) for role, values in side.items()})
        options: dict[str, Any] = {"checkpoint": folder, "smoother": Sam(0.01), "show_progress": False}
        return model, Loop(model, objective, None, adapters_of(model), CONFIG, **options)

    whole, loop = build(tmp_path / "a")
    loop.run()
    loop.weights.settled()
    _, loop = build(tmp_path / "b")
    loop.advance(3)
    loop.save_checkpoint()
    resumed, loop = build(tmp_path / "b")
    loop.load_checkpoint()
    loop.run()
    loop.weights.settled()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name])


def test_another_rank_or_base_is_another_run(tmp_path: Any) -> None:
    loop = loop_of(MlpBackend(), checkpoint=tmp_path)
    loop.advance(1)
    loop.save_checkpoint()
    with pytest.raises(UserError, match="rank was 2, here it is 1"):
        loop_of(MlpBackend(), rank=1, checkpoint=tmp_path).load_checkpoint()
    with pytest.raises(UserError, match="another run: base was"):
        loop_of(MlpBackend(seed=1), checkpoint=tmp_path).load_checkpoint()


def test_a_frozen_tensor_gets_no_adapter_and_the_others_start_as_they_did() -> None:
    whole, less = MlpBackend(), MlpBackend()
    start = dict(zip((w := adapters_of(whole)).names, w.parameters, strict=True))
    named = apply_freeze(layers_in(less, less.tensors()), [NAMES[0]])
    weights = Adapters(less, named, rank=2, alpha=3.0, seed=5)
    assert weights.names == [f"{NAMES[1]}.lora_A", f"{NAMES[1]}.lora_B"]
    assert type(less.net.first) is nn.Linear
    assert torch.equal(weights.parameters[0], start[f"{NAMES[1]}.lora_A"])


def test_the_start_is_drawn_from_seed_stream_and_name() -> None:
    def start(seed: int = 5, **options: Any) -> list[Tensor]:
        model = every_kind()
        weights = Adapters(model, layers_in(model, model.tensors()), rank=2, seed=seed, **options)
        assert not any(bool(up.any()) for up in weights.parameters[1::2])
        assert weights.alpha == 2
        return [down.detach().flatten()[:6] for down in weights.parameters[::2]]

    assert same(start(), start())
    for other in (start(seed=6), start(stream="lora")):
        assert not any(torch.equal(one, two) for one, two in zip(start(), other, strict=True))
    spread = Layers(wide=nn.Linear(4000, 2))
    torch.testing.assert_close(
        adapters_of(spread, rank=8).parameters[0].std(), torch.tensor(1 / 8), rtol=0.05, atol=0
    )


def test_flags_stay_and_a_scope_without_a_layer_is_refused() -> None:
    model = MlpBackend()
    model.net.first.bias.requires_grad_(False)
    flags = {name: tensor.requires_grad for name, tensor in model.tensors().items()}
    weights = adapters_of(model)
    assert {name: tensor.requires_grad for name, tensor in model.tensors().items()} == flags
    assert not any(parameter.requires_grad for parameter in weights.parameters)
    with pytest.raises(UserError, match="net has adapters already"):
        adapters_of(model)
    assert weights.names  # the first ones are still there
    assert "lora_A" in str(model.net)
    with pytest.raises(UserError, match="no matrix"):
        layers_in(model, {"net.first.bias": model.net.first.bias})


@pytest.mark.parametrize("how", [{"groups": 2}, {"dilation": 2}, {"padding": 1, "padding_mode": "circular"}])
def test_a_convolution_that_peft_computes_otherwise_takes_none(how: dict[str, Any]) -> None:
    model = Layers(middle=nn.Linear(4, 4), other=nn.Conv2d(4, 4, 3, **how))
    assert list(layers_in(model, model.tensors())) == ["net.middle.weight"]


def test_a_weight_that_an_embedding_shares_takes_none() -> None:
    embedding, head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    head.weight = embedding.weight
    model = Layers(embedding=embedding, middle=nn.Linear(4, 4), head=head)
    assert list(layers_in(model, model.tensors())) == ["net.middle.weight"]
