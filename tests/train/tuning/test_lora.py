"""LoRA against its definition: W + (alpha / rank) B A, A normal, B zero, nothing on frozen layers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from attack.attacked import answering, budget, denoising, diffusion, language
from oubliette.attack.relearn import relearn
from oubliette.core.errors import UserError
from oubliette.train.tuning.lora import targets_of
from oubliette.train.tuning.modes import open_mode


def test_targets():
    model = diffusion()
    tensors = model.tensors()
    attention = set(targets_of(model, "attention"))
    expected = {
        f"unet.{path}.{projection}.weight"
        for path, module in model.pipe.unet.named_modules()
        if path.endswith(("attn1", "attn2"))
        for projection in ("to_q", "to_k", "to_v", "to_out.0")
    }
    assert attention == expected
    wide = set(targets_of(model, "wide"))
    layers = {
        f"{component}.{path}.weight"
        for component in ("unet", "text_encoder")
        for path, module in getattr(model.pipe, component).named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    assert wide == layers
    assert set(targets_of(model, "xattn-kv")) == set(model.text_facing())
    assert set(targets_of(model, "re:conv_in")) == {"unet.conv_in.weight"}  # and not its bias
    assert wide < set(tensors)
    for spec, match in (("re:norm", "no linear or convolution layer"), ("attn", "no scope is called 'attn'")):
        with pytest.raises(UserError, match=match):
            targets_of(model, spec)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_targets_of_a_language_model_leave_embeddings_and_head_alone(kind):
    model = language(kind)
    attention = targets_of(model, "attention")
    assert len(attention) == {"llama": 2 * 4, "gpt2": 2 * 2}[kind]
    wide = targets_of(model, "wide")
    assert set(attention) < set(wide)
    assert not any("embed" in name or "lm_head" in name or "wte" in name for name in wide)


def test_the_merged_model_is_the_formula_and_draws_what_the_adapters_draw():
    model = diffusion()
    options = {"targets": "wide"}
    original = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    text = model.encode_text(["a car"])
    noisy, t = (
        torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(1)),
        torch.tensor([7]),
    )
    with open_mode(model, "lora", budget(rank=3, alpha=6.0), options=options) as trained, torch.no_grad():
        before = model.predict(noisy, t, text)
        parts = trained.parameters
        for name, parameter in parts.items():
            if name.endswith("lora_B"):
                assert not parameter.any()
                parameter.copy_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1
                )
        adapted = model.predict(noisy, t, text)
        with trained.plain():
            now = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
            merged = model.predict(noisy, t, text)
        again = model.predict(noisy, t, text)
        for name, weight in original.items():
            if f"{name}.lora_A" not in parts:
                assert torch.equal(now[name], weight)
                continue
            down, up = parts[f"{name}.lora_A"], parts[f"{name}.lora_B"]
            assert down.shape[0] == up.shape[1] == 3
            up = up.reshape(len(up), 3)
            product = (up @ down.reshape(3, -1)).reshape(weight.shape)
            torch.testing.assert_close(now[name], weight + 2 * product)
    assert now.keys() == original.keys()
    assert not torch.allclose(before, adapted)
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-4)
    assert torch.equal(adapted, again)
    assert torch.equal(model.predict(noisy, t, text).detach(), before)


def test_it_starts_as_the_model_from_a_gaussian_of_the_ranks_width():
    model = diffusion()
    with open_mode(model, "lora", budget(rank=8)) as trained:
        downs = [p.flatten() for name, p in trained.parameters.items() if name.endswith("lora_A")]
        spread = torch.cat(downs).std()
        torch.testing.assert_close(spread, torch.tensor(1 / 8), rtol=0.05, atol=0)
        assert not any(torch.equal(a, b) for a, b in pairwise(downs))


def test_a_mask_takes_adapters_away_and_leaves_the_others_as_they_were():
    model = diffusion()
    frozen = [name for name in model.text_facing() if "to_k" in name]

    def start(frozen=None):
        with open_mode(model, "lora", budget(), frozen=frozen) as trained:
            return {name: p.detach().clone() for name, p in trained.parameters.items()}

    whole, masked = start(), start(frozen)
    assert set(whole) - set(masked) == {f"{name}.{part}" for name in frozen for part in ("lora_A", "lora_B")}
    assert all(torch.equal(whole[name], masked[name]) for name in masked)
    found = relearn(model, denoising(model), "lora", budget(), frozen=frozen, delta=True)
    assert set(found.delta) == set(targets_of(model, "attention")) - set(frozen)


def test_a_delta_is_what_a_look_sees():
    model = language("gpt2")
    original = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    seen = {}

    def look(_, at):
        seen.update({name: tensor.detach().clone() for name, tensor in at.tensors().items()})

    found = relearn(model, answering(model), "lora", budget(), at=(3,), look=look, delta=True)
    assert seen.keys() == original.keys()
    for name, weight in original.items():
        moved = found.delta.get(name, torch.zeros(()))
        torch.testing.assert_close(seen[name], weight + moved)


def test_adapters_on_adapters_are_refused():
    model = diffusion()
    with (
        open_mode(model, "lora", budget()),
        pytest.raises(UserError, match="unet has adapters already"),
        open_mode(model, "lora", budget()),
    ):
        pass
