"""Probes that change weights: linear layers alone, of whatever model, and every bit back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import tiny_language
from attack.probes.rig import backend
from oubliette.attack import PROBES
from oubliette.attack.probes.perturb import Noise, Prune
from oubliette.attack.probes.quantize import Quantize, round_to_nearest
from oubliette.attack.probes.weights import WeightProbe
from oubliette.attack.types import NEEDS
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError

ALL = [Quantize, Prune, Noise]


def language(kind: str, dtype: torch.dtype = torch.float32) -> LanguageBackend:
    words = tiny_language.tokenizer()
    return LanguageBackend(tiny_language.model(kind, len(words)).to(dtype), words)


def kept(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.tensors().items()}


@pytest.mark.parametrize("kind", ALL)
def test_declares_itself(kind: Any) -> None:
    assert PROBES.get(kind.name) is kind
    assert issubclass(kind, WeightProbe)
    assert kind.kind == "probe"
    assert kind.about
    assert "\n" not in kind.about
    assert kind.needs <= set(NEEDS)
    assert kind().words


@pytest.mark.parametrize("name", [*tiny_language.KINDS, "pictures"])
@pytest.mark.parametrize("kind", ALL)
def test_linear_layers_change_and_nothing_else_and_every_bit_returns(kind: Any, name: str) -> None:
    model: Any = backend() if name == "pictures" else language(name)
    before = kept(model)
    linear, tied = set(), set()
    for component in model.modules().values():
        for module in component.modules():
            if isinstance(module, torch.nn.Embedding):
                tied.add(id(module.weight))
            if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
                linear.add(id(module.weight))
    head = {id(model.model.get_output_embeddings().weight)} if name != "pictures" else set()
    changing = {
        key
        for key, value in model.tensors().items()
        if id(value) in linear - tied - head and (name != "pictures" or key.startswith("unet."))
    }
    assert changing
    versions = {key: value._version for key, value in model.tensors().items()}
    with kind().altered(model) as facts:
        assert {k for k, v in model.tensors().items() if not torch.equal(v, before[k])} == changing
        assert all(model.tensors()[key]._version > versions[key] for key in changing)
        square = sum(float(before[key].double().square().sum()) for key in changing)
        moved = sum(
            float((model.tensors()[key].double() - before[key].double()).square().sum()) for key in changing
        )
        assert facts["moved"] == pytest.approx(math.sqrt(moved / square))
        assert facts["layers"] == len(changing)
        assert facts["weights"] == sum(before[key].numel() for key in changing)
    assert all(torch.equal(value, before[key]) for key, value in model.tensors().items())
    with pytest.raises(KeyboardInterrupt), kind().altered(model):
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[key]) for key, value in model.tensors().items())


def test_a_row_is_an_output_even_where_the_weight_lies_transposed() -> None:
    """GPT-2 keeps (inputs, outputs), Llama (outputs, inputs): the scale is an output's in either."""
    for kind, name, turned in (
        ("gpt2", "transformer.h.0.attn.c_attn.weight", True),
        ("llama", "model.layers.0.self_attn.k_proj.weight", False),
    ):
        model = language(kind)
        before = kept(model)[name]
        assert before.shape[0] != before.shape[1]
        expected = round_to_nearest(before.T, 4).T if turned else round_to_nearest(before, 4)
        with Quantize().altered(model):
            assert torch.equal(model.tensors()[name], expected)


def test_bf16_weights_are_rounded_in_fp32_and_kept_in_bf16() -> None:
    model = language("llama", torch.bfloat16)
    name = "model.layers.1.mlp.down_proj.weight"
    before = kept(model)[name]
    with Quantize(Quantize.Options(bits=8)).altered(model):
        found = model.tensors()[name]
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, round_to_nearest(before.float(), 8).bfloat16())
    assert torch.equal(model.tensors()[name], before)


def test_a_failure_half_way_leaves_nothing_changed() -> None:
    model = language("llama")
    before, seen = kept(model), []

    class Breaks(Quantize):
        def changed(self, name: str, weight: torch.Tensor) -> torch.Tensor:
            seen.append(name)
            if len(seen) == 3:
                raise RuntimeError("half way")
            return super().changed(name, weight)

    with pytest.raises(RuntimeError, match="half way"), Breaks().altered(model):
        pass
    assert all(torch.equal(value, before[key]) for key, value in model.tensors().items())


def test_a_model_without_linear_layers_is_refused() -> None:
    class Bare:
        source = "bare"

        def tensors(self) -> dict[str, Any]:
            return {"embed": torch.nn.Parameter(torch.zeros(2, 2))}

        def modules(self) -> dict[str, Any]:
            return {}

        def groups(self) -> dict[str, Any]:
            return {}

    with pytest.raises(UserError, match=r"all-linear.* selects no tensor of bare"), Prune().altered(Bare()):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("share", [0.1, 0.3, 0.999])
def test_pruning_takes_the_smallest(share: float) -> None:
    given = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    made = Prune(Prune.Options(share=share)).changed("any", given)
    count = math.floor(share * 77)
    order = sorted(range(77), key=lambda index: abs(float(given.flatten()[index])))
    expected = [0.0 if index in order[:count] else float(given.flatten()[index]) for index in range(77)]
    assert made.flatten().tolist() == expected
    equal = Prune(Prune.Options(share=0.5)).changed("any", torch.ones(2, 3))
    assert equal.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_noise_has_the_size_that_was_asked_for_and_depends_on_name_and_seed() -> None:
    given = 3 * torch.randn(200, 200, generator=torch.Generator().manual_seed(0)) + 1

    def made(name: str = "a", scale: float = 0.2, seed: int = 0) -> torch.Tensor:
        return Noise(Noise.Options(scale=scale, seed=seed)).changed(name, given)

    size = float(given.square().mean().sqrt())
    assert float((made() - given).std()) == pytest.approx(0.2 * size, rel=0.02)
    assert abs(float((made() - given).mean())) < 0.01 * size
    assert torch.equal(made(), made())
    assert torch.allclose(made(scale=0.4) - given, 2 * (made() - given), atol=1e-5)
    assert not torch.equal(made(), made("b"))
    assert not torch.equal(made(), made(seed=1))
