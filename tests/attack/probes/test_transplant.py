"""A transplanted delta is in the weights to the bit, and out of them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tiny
from attack.probes.rig import CAR, CASES, HOW, backend, bits, erased, flow, prompts_and_seeds, same_bits
from oubliette.attack.probes.transplant import Difference, Transplant, read_lora, transplanted
from oubliette.core.errors import UserError
from oubliette.core.validation import validated


def _transplant(**options: Any) -> Transplant:
    return Transplant(Transplant.Options(**options))


def test_its_own_delta_gives_the_original_back_to_the_bit() -> None:
    base, model = backend(), erased()
    before, original = bits(model), bits(base)
    delta = Difference(base, model)
    assert sorted(delta) == sorted(model.text_facing())
    with transplanted(model, delta) as names:
        assert same_bits(model, original)
        assert set(names) == set(delta)
    assert same_bits(model, before)


def test_its_own_delta_draws_the_originals_pictures() -> None:
    base, model = backend(), erased(names=["text_encoder.encoder.layers.0.mlp.fc1.weight"])
    prompts, seeds = prompts_and_seeds()
    how: dict[str, Any] = {"steps": 6, "guidance": 2.0, "batch": 2}
    alone = model.draw(prompts, seeds, **how)  # fills the cache of prompts
    shown = Transplant().run(model, CAR, CASES, base=base, sampling=HOW)
    assert np.array_equal(shown.samples, base.draw(prompts, seeds, **how))
    assert not np.array_equal(shown.samples, alone)
    assert np.array_equal(model.draw(prompts, seeds, **how), alone)
    assert (shown.facts["own"], shown.facts["tensors"], shown.facts["strength"]) == (1.0, 1.0, 1.0)
    assert shown.facts["cosine"] == pytest.approx(1.0)
    assert shown.seeds == tuple(seeds)


def test_half_a_delta_is_half_way() -> None:
    base, model = backend(), erased()
    name = model.text_facing()[0]
    middle = (base.tensors()[name].double() + model.tensors()[name].double()) / 2
    with transplanted(model, Difference(base, model), 0.5):
        assert torch.equal(model.tensors()[name], middle.float())


def test_every_bit_returns_after_an_error_and_gradients_are_left_alone() -> None:
    base, model = backend(), erased()
    before = bits(model)

    def fails() -> None:
        with transplanted(model, Difference(base, model)):
            assert torch.is_grad_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert same_bits(model, before)


def test_a_sibling_gives_what_was_taken_from_it(tmp_path: Path) -> None:
    base, model, sibling = backend(), erased(9), erased(10)
    folder = tiny.save(sibling.pipe, tmp_path / "sibling")
    name = model.text_facing()[0]
    expected = model.tensors()[name].double() + (
        base.tensors()[name].double() - sibling.tensors()[name].double()
    )
    seen: dict[str, torch.Tensor] = {}
    plain = model.draw

    def draw(*args: Any, **more: Any) -> np.ndarray:
        seen["inside"] = model.tensors()[name].detach().clone()
        return plain(*args, **more)

    model.draw = draw  # type: ignore[method-assign]
    shown = _transplant(sibling=str(folder)).run(model, CAR, CASES, base=base, sampling=HOW)
    assert torch.equal(seen["inside"], expected.float())
    flat = [
        torch.cat(
            [(base.tensors()[n].double() - m.tensors()[n].double()).flatten() for n in model.text_facing()]
        )
        for m in (sibling, model)
    ]
    assert shown.facts["own"] == 0.0
    assert shown.facts["norm"] == pytest.approx(float(flat[0].norm()), rel=1e-5)
    assert shown.facts["cosine"] == pytest.approx(float(torch.cosine_similarity(*flat, dim=0)), abs=1e-6)


def test_a_delta_by_name_needs_no_original() -> None:
    model = erased()
    name = model.text_facing()[0]
    delta = {name: torch.ones_like(model.tensors()[name])}
    shown = Transplant(delta=delta).run(model, CAR, CASES, sampling=HOW)
    assert shown.facts["norm"] == pytest.approx(delta[name].numel() ** 0.5)
    assert "cosine" not in shown.facts


def test_a_flow_model_takes_a_transplant_too() -> None:
    model = flow()
    name = model.text_facing()[0]
    delta = {name: torch.ones_like(model.tensors()[name])}
    assert Transplant(delta=delta).run(model, CAR, CASES, sampling=HOW).samples.shape == (3, 16, 16, 3)


def test_half_precision_weights_round_once() -> None:
    from oubliette.backends.diffusion import DiffusionBackend

    model = DiffusionBackend.from_pipeline(tiny.pipeline(dtype=torch.float16))
    before = bits(model)
    name = model.text_facing()[0]
    delta = torch.full(tuple(model.tensors()[name].shape), 1e-3)
    with transplanted(model, {name: delta}, 0.5):
        expected = (before[name].double() + 0.5 * delta.double()).half()
        assert torch.equal(model.tensors()[name], expected)
    assert same_bits(model, before)


def test_what_does_not_fit_is_refused_before_a_weight_is_touched() -> None:
    model = erased()
    before, name = bits(model), model.text_facing()[0]
    good = torch.ones_like(model.tensors()[name])
    for delta, message in (
        ({name: good, "unet.nothing": good}, "'unet.nothing' has no place"),
        ({name: good, model.text_facing()[1]: torch.ones(2)}, r"is \(2,\), that of memory"),
    ):
        with pytest.raises(UserError, match=message), transplanted(model, delta):
            pass
    assert same_bits(model, before)
    with pytest.raises(UserError, match="needs a delta"):
        Transplant().run(model, CAR, CASES, sampling=HOW)
    with pytest.raises(UserError, match="give the original"):
        _transplant(sibling="somewhere").run(model, CAR, CASES, sampling=HOW)
    with pytest.raises(UserError, match="a sibling or a lora, not both"):
        validated(Transplant.Options, {"sibling": "a", "lora": "b"}, "transplant")


def test_another_architecture_is_no_sibling() -> None:
    from oubliette.backends.diffusion import DiffusionBackend

    other = DiffusionBackend.from_pipeline(tiny.xl_pipeline())
    with pytest.raises(UserError, match="no sibling of memory: tensor '"):
        Difference(backend(), other)


# -- LoRA files ----------------------------------------------------------------------------------------------


def _halves(model: Any, name: str, rank: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    shape = model.tensors()[name].shape
    rng = torch.Generator().manual_seed(3)
    if len(shape) == 4:
        down = torch.randn((rank, *shape[1:]), generator=rng)
        return down, torch.randn((shape[0], rank, 1, 1), generator=rng)
    return torch.randn((rank, shape[1]), generator=rng), torch.randn((shape[0], rank), generator=rng)


@pytest.mark.parametrize(
    ("prefix", "down_name", "up_name"),
    [
        ("", "lora_A.weight", "lora_B.weight"),
        ("", "lora.down.weight", "lora.up.weight"),
        ("base_model.model.", "lora_A.default.weight", "lora_B.default.weight"),
    ],
)
def test_a_lora_is_alpha_over_rank_times_the_product(
    tmp_path: Path, prefix: str, down_name: str, up_name: str
) -> None:
    model = erased()
    name = model.text_facing()[0]
    down, up = _halves(model, name)
    stem = name.removesuffix(".weight")
    stem = prefix + (stem.removeprefix("unet.") if prefix else stem)
    file = tmp_path / "lora.safetensors"
    save_file({f"{stem}.{down_name}": down, f"{stem}.{up_name}": up}, file)
    delta = read_lora(file, model)
    assert list(delta) == [name]
    torch.testing.assert_close(delta[name], up @ down)  # alpha = rank where none is written
    save_file(
        {f"{stem}.{down_name}": down, f"{stem}.{up_name}": up, f"{stem}.alpha": torch.tensor(8.0)}, file
    )
    torch.testing.assert_close(read_lora(file, model)[name], 8 / 2 * (up @ down))


def test_a_lora_that_peft_trained_gives_what_peft_merges(tmp_path: Path) -> None:
    """On linear layers and convolutions, saved as diffusers saves it: the merged network says the same."""
    pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    model, teacher = backend(), backend()
    unet = teacher.pipe.unet
    unet.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["to_k", "to_out.0", "conv1"]))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in unet.named_parameters():
            if "lora_" in key:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    config = unet.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(
        str(tmp_path), unet_lora_layers=layers, unet_lora_adapter_metadata=config
    )
    (file,) = tmp_path.glob("*.safetensors")
    delta = read_lora(file, model)
    assert {len(value.shape) for value in delta.values()} == {2, 4}
    text, x = model.encode_text(["a car"]), torch.randn(1, 4, 8, 8, generator=rng)
    with torch.no_grad():
        expected, plain = teacher.predict(x, 500, text), model.predict(x, 500, text)
        with transplanted(model, delta):
            torch.testing.assert_close(model.predict(x, 500, text), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_a_lora_of_the_text_encoder_fits_whatever_its_names(tmp_path: Path) -> None:
    model = backend()
    name = next(n for n in model.tensors() if n.startswith("text_encoder") and n.endswith("q_proj.weight"))
    down, up = _halves(model, name)
    file = tmp_path / "lora.safetensors"
    stem = (
        name.removesuffix(".weight")
        .replace(".text_model.", ".")
        .replace("encoder.layers", "text_model.encoder.layers")
    )
    save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, file)
    assert list(read_lora(file, model)) == [name]


def test_broken_and_foreign_loras_are_refused_in_a_line(tmp_path: Path) -> None:
    model = backend()
    name = model.text_facing()[0].removesuffix(".weight")
    down, up = _halves(model, name + ".weight")
    file = tmp_path / "lora.safetensors"

    def refused(tensors: dict[str, torch.Tensor], message: str, record: Any = None) -> None:
        save_file(tensors, file, metadata=None if record is None else {"lora_adapter_metadata": record})
        with pytest.raises(UserError, match=message) as error:
            read_lora(file, model)
        assert "\n" not in str(error.value)

    both = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    refused({f"{name}.lora_A.weight": down}, "only one of the two")
    refused({**both, f"{name}.lora_magnitude_vector": up.clone()}, "not of a LoRA as diffusers or peft")
    refused({"lora_unet_down.lora_down.weight": down}, "not of a LoRA as diffusers or peft")
    refused({"unet.no.lora_A.weight": down, "unet.no.lora_B.weight": up}, "no module of memory")
    refused({**both, f"{name}.lora_B.weight": up[:3].clone()}, "makes")
    refused({"x.alpha": torch.tensor(1.0)}, "holds no LoRA")
    refused(both, "use_rslora", json.dumps({"unet.use_rslora": True}))
    refused(both, "not readable", "{")
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors"):
        read_lora(file, model)
    with pytest.raises(UserError, match="not a readable safetensors"):
        _transplant(lora=str(tmp_path / "none")).run(model, CAR, CASES, sampling=HOW)
