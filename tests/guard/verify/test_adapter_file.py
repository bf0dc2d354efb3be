"""Adapters on disk against a mask: peft's and diffusers' own files, and those that others write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from guard.toy_model import CONV, FROZEN, TO_K, TO_OUT, mask, one_line, values, write
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.guard.mask import Mask
from oubliette.guard.verify.adapter_file import AdapterFile, is_adapter
from oubliette.guard.verify.verification import Verification
from oubliette.guard.verify.verify import verify

LAYER = TO_K.removesuffix(".weight")
BARE = LAYER.removeprefix("unet.")
FREE = "unet.up_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
KOHYA = "lora_unet_" + BARE.replace(".", "_")


def pair(
    layer: str, up: str = "lora_B.weight", down: str = "lora_A.weight", rank: int = 2
) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        f"{layer}.{up}": torch.randn(32, rank, generator=rng),
        f"{layer}.{down}": torch.randn(rank, 24, generator=rng),
    }


def check(tmp_path: Path, tensors: dict[str, Tensor], **options: Any) -> Verification:
    found = verify(mask(), write(tmp_path / "adapter.safetensors", tensors), **options)
    assert found.form == "adapter"
    return found


@pytest.mark.parametrize(
    "tensors",
    [
        pair(f"base_model.model.{BARE}"),
        pair(f"base_model.model.unet.{BARE}"),
        pair(f"base_model.model.{BARE}", "lora_B.default.weight", "lora_A.default.weight"),
        pair(LAYER),
        pair(LAYER, "lora.up.weight", "lora.down.weight"),
        pair(BARE, "lora.up.weight", "lora.down.weight"),
        pair(KOHYA, "lora_up.weight", "lora_down.weight"),
        {
            f"{LAYER.removesuffix('.to_k')}.processor.to_k_lora.up.weight": torch.ones(32, 2),
            f"{LAYER.removesuffix('.to_k')}.processor.to_k_lora.down.weight": torch.ones(2, 24),
        },
    ],
    ids=["peft", "peft pipeline", "peft named", "diffusers", "old diffusers", "bare", "kohya", "processor"],
)
def test_a_lora_on_a_frozen_tensor_is_found_whoever_wrote_it(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    found = check(tmp_path, tensors)
    assert found.word == "violated"
    (hit,) = found.of("changed")
    up, down = (value for value in tensors.values())
    assert hit.name == TO_K
    assert hit.rank == 2
    assert hit.max_abs == pytest.approx(float((up @ down).abs().max()), rel=1e-5)
    assert len(found.of("untouched")) == 2


@pytest.mark.parametrize(
    "parts",
    [
        {"lora_A.weight": (2, 24), "lora_B.weight": (32, 2), "lora_magnitude_vector": (32,)},
        {"lora_A.weight": (2, 24), "lora_B.weight": (32, 2), "lora_magnitude_vector.weight": (32,)},
        {"hada_w1_a": (32, 2), "hada_w1_b": (2, 24), "hada_w2_a": (32, 2), "hada_w2_b": (2, 24)},
        {"lokr_w1": (4, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 6)},
        {"ia3_l": (32, 1)},
        {"oft_R.weight": (4, 28)},
        {"oft_blocks": (4, 8, 8)},
        {"boft_R": (1, 4, 8, 8), "boft_s": (32, 1)},
        {"vera_lambda_b": (32,), "vera_lambda_d": (2,)},
        {"diff": (32, 24)},
        {"lora_down.weight": (2, 24), "lora_up.weight": (32, 2), "dora_scale": (32, 1)},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_its_kin_are_found_too(tmp_path: Path, parts: dict[str, tuple[int, ...]]) -> None:
    tensors = {f"base_model.model.{BARE}.{part}": torch.ones(shape) for part, shape in parts.items()}
    found = check(tmp_path, tensors)
    assert found.word == "violated"
    assert [hit.name for hit in found.of("changed")] == [TO_K]


def test_adapters_elsewhere_respect_the_mask(tmp_path: Path) -> None:
    for layer in (
        FREE,
        f"base_model.model.{FREE.removeprefix('unet.')}",
        "unet.conv_in",
        "text_encoder.layers.0.fc",
    ):
        found = check(tmp_path, pair(layer))
        assert (found.word, found.exit_code) == ("respected", 0), layer
    assert found.notes == ["adapter.safetensors adapts components that the mask does not cover"]


@pytest.mark.parametrize(
    "key",
    [
        "unet.nowhere.lora_A.weight",
        "lora_unet_input_blocks_1_1_proj_in.lora_up.weight",
        "blocks.0.lora_A.weight",
    ],
)
def test_unknown_keys_cannot_be_checked(tmp_path: Path, key: str) -> None:
    found = check(tmp_path, {**pair(FREE), key: torch.ones(2, 2)})
    assert (found.word, found.exit_code) == ("not checkable", 3)
    assert "1 keys name no layer of the mask's model" in found.reasons[0]
    odd = check(tmp_path, {**pair(FREE), f"{LAYER}.strange_new_kind": torch.ones(2)})
    assert odd.word == "not checkable"
    assert check(tmp_path, {**pair(LAYER), key: torch.ones(2, 2)}).word == "violated"


def test_a_zero_adapter_adds_nothing(tmp_path: Path) -> None:
    tensors = pair(LAYER)
    tensors[f"{LAYER}.lora_B.weight"] *= 0
    found = check(tmp_path, tensors)
    assert found.word == "respected"
    assert "adds nothing" in next(each.note for each in found.tensors if each.name == TO_K)
    tensors[f"{LAYER}.lora_magnitude_vector"] = torch.ones(32)
    assert check(tmp_path, tensors).word == "violated"
    tensors = pair(LAYER)
    tensors[f"{LAYER}.lora_B.weight"][0, 0] = float("nan")
    assert check(tmp_path, tensors).word == "violated"


def test_full_copies_are_compared(tmp_path: Path) -> None:
    copied = values()[CONV]
    bare = CONV.removeprefix("unet.")
    for key in (
        f"base_model.model.{bare}",
        f"base_model.model.{bare.replace('.weight', '.modules_to_save.x.weight')}",
    ):
        assert check(tmp_path, {**pair(FREE), key: copied}).word == "respected"
        found = check(tmp_path, {**pair(FREE), key: copied + 1})
        assert [hit.name for hit in found.of("changed")] == [CONV]


@pytest.mark.parametrize(
    ("config", "scale"), [({"lora_alpha": 8}, 4.0), ({"lora_alpha": 8, "use_rslora": True}, 8 / 2**0.5)]
)
def test_amount_is_scaled_as_peft_does_and_relative_to_the_base(
    tmp_path: Path, config: dict[str, Any], scale: float
) -> None:
    tensors = pair(f"base_model.model.{BARE}")
    write(tmp_path / "a" / "adapter_model.safetensors", tensors)
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    base = write(tmp_path / "base.safetensors", values())
    (hit,) = verify(mask(), tmp_path / "a", base).of("changed")
    up, down = tensors.values()
    delta = scale * (up @ down)
    assert hit.max_abs == pytest.approx(float(delta.abs().max()), rel=1e-5)
    assert hit.relative == pytest.approx(float(delta.norm() / values()[TO_K].norm()), rel=1e-5)


def test_kohyas_alpha_scales(tmp_path: Path) -> None:
    tensors = pair(KOHYA, "lora_up.weight", "lora_down.weight")
    plain = check(tmp_path, tensors).of("changed")[0].max_abs
    tensors[f"{KOHYA}.alpha"] = torch.tensor(1.0)
    assert plain is not None
    assert check(tmp_path, tensors).of("changed")[0].max_abs == pytest.approx(plain / 2)


def test_an_adapter_beside_a_pipeline_counts(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").parent.mkdir(exist_ok=True)
    (tmp_path / "model_index.json").write_text('{"_class_name": "X", "unet": ["diffusers", "Y"]}')
    write(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", {k[5:]: v for k, v in values().items()})
    assert verify(mask(), tmp_path).word == "respected"
    write(tmp_path / "pytorch_lora_weights.safetensors", pair(LAYER))
    found = verify(mask(), tmp_path)
    assert found.word == "violated"
    assert [hit.where for hit in found.of("changed")] == ["pytorch_lora_weights.safetensors"]


@pytest.mark.parametrize("text", ["[]", "{", "\xff", "[" * 100_000])
def test_a_hostile_config_gives_one_line(tmp_path: Path, text: str) -> None:
    write(tmp_path / "adapter_model.safetensors", pair(LAYER))
    (tmp_path / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as raised:
        verify(mask(), tmp_path)
    one_line(raised.value)


def test_a_config_without_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="without adapter_model"):
        verify(mask(), tmp_path)


def test_plain_weights_are_no_adapter() -> None:
    assert not is_adapter(list(values()))
    assert not is_adapter(["fuser.alpha", "a.weight"])
    assert is_adapter(["a.lora_A.weight"])


# -- peft's and diffusers' own files


def trained(module: Any) -> Any:
    """An adapter as after some training: no factor is zero any more."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_" in name or "hada_" in name or "lokr_" in name or "ia3_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return module


def configs() -> list[Any]:
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig

    return [
        LoraConfig(r=2, target_modules=["to_k"]),
        LoraConfig(r=2, target_modules=["to_k"], use_dora=True),
        LoHaConfig(r=2, target_modules=["to_k"]),
        LoKrConfig(r=2, target_modules=["to_k"]),
        IA3Config(target_modules=["to_k"], feedforward_modules=[]),
        OFTConfig(target_modules=["to_k"], oft_block_size=8),
    ]


@pytest.fixture(scope="module")
def keys_frozen() -> Mask:
    model = DiffusionBackend.from_pipeline(tiny.pipeline())
    return Mask.make(model, [name for name in model.tensors() if name.endswith("attn2.to_k.weight")])


@pytest.mark.parametrize("place", range(6))
def test_what_peft_saves(keys_frozen: Mask, tmp_path: Path, place: int) -> None:
    from peft import get_peft_model

    config = configs()[place]
    trained(get_peft_model(tiny.pipeline().unet, config)).save_pretrained(tmp_path)
    found = verify(keys_frozen, tmp_path)
    assert found.word == "violated", found.reasons
    assert {hit.name for hit in found.of("changed")} == set(keys_frozen.names)


def test_peft_beside_the_mask_with_a_module_saved_whole(keys_frozen: Mask, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], modules_to_save=["conv_in"])
    trained(get_peft_model(tiny.pipeline().unet, config)).save_pretrained(tmp_path)
    found = verify(keys_frozen, tmp_path)
    assert found.word == "respected", found.reasons
    file = AdapterFile.open(tmp_path / "adapter_model.safetensors")
    assert sorted(file.copies) == ["base_model.model.conv_in.bias", "base_model.model.conv_in.weight"]
    assert file.config["peft_type"] == "LORA"


def test_what_diffusers_saves_and_what_it_merges(keys_frozen: Mask, tmp_path: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = tiny.pipeline()
    base = tiny.save(tiny.pipeline(), tmp_path / "base")
    pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=3, target_modules=["to_k", "to_q"]))
    trained(pipe.unet)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
    pipe.save_lora_weights(tmp_path / "lora", unet_lora_layers=layers)
    for tuned in (tmp_path / "lora", tmp_path / "lora" / "pytorch_lora_weights.safetensors"):
        found = verify(keys_frozen, tuned, base)
        assert {hit.name for hit in found.of("changed")} == set(keys_frozen.names)
        assert all(hit.relative is not None for hit in found.of("changed"))
    pipe.unet.fuse_lora()
    pipe.unet.unload_lora()
    found = verify(keys_frozen, tiny.save(pipe, tmp_path / "merged"), base)
    assert {hit.name for hit in found.of("changed")} == set(keys_frozen.names)
    assert any("merged low-rank adapter, rank ~ 3" in reason for reason in found.reasons), found


def test_a_wrapped_model_saved_without_merging(keys_frozen: Mask, tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    unet = inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_k"]), tiny.pipeline().unet)
    write(tmp_path / "model.safetensors", unet.state_dict())
    assert (
        verify(keys_frozen, tmp_path / "model.safetensors").word == "respected"
    )  # its adapters are still zero
    write(tmp_path / "model.safetensors", trained(unet).state_dict())
    found = verify(keys_frozen, tmp_path / "model.safetensors")
    assert found.word == "violated"
    assert {each.name for each in found.of("untouched")} == set(keys_frozen.names)  # the base under them is


def test_the_toys_names_are_those_of_a_mask() -> None:
    assert mask().names == FROZEN == [TO_K, TO_OUT, CONV]
