"""Adapters beside a mask: where they may go, which are refused, and what merging one does."""

from __future__ import annotations

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

import tiny
import tiny_language
from guard.enforcing import HashedMask, drift, fit, network, values
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.guard.enforce.adapters import check_adapters, lora_targets
from oubliette.guard.enforce.enforce import enforce
from oubliette.guard.enforce.watch import MaskViolated, Watch
from oubliette.guard.mask import Mask
from oubliette.guard.names import tensors


@pytest.fixture
def unet_mask():
    """A tiny UNet, and a mask of its cross-attention's keys and values."""
    pipe = tiny.pipeline()
    model = DiffusionBackend.from_pipeline(pipe)
    return pipe.unet, Mask.make(model, model.text_facing())


def attention(unet, parts):
    return [path for path, _ in unet.named_modules() if path.endswith(parts)]


# -- where they may go ---------------------------------------------------------------------------------------


def test_targets_are_the_free_attention_projections_and_peft_puts_adapters_there_alone(unet_mask):
    unet, mask = unet_mask
    free = lora_targets(unet, mask)
    wanted = set(attention(unet, ("to_q", "to_k", "to_v", "to_out.0")))
    assert set(free) == wanted - {name[5:-7] for name in mask.names}
    unet.add_adapter(LoraConfig(r=2, target_modules=free))
    placed = [path for path, module in unet.named_modules() if isinstance(module, BaseTunerLayer)]
    assert set(placed) == set(free)
    check_adapters(unet, mask)
    assert set(lora_targets(unet, mask)) == set(free)  # their names do not change when adapters are there


def test_targets_of_pipelines_backends_language_models_and_patterns(unet_mask):
    unet, mask = unet_mask
    pipe = tiny.pipeline()
    assert lora_targets(pipe, mask) == lora_targets(DiffusionBackend.from_pipeline(pipe), mask)
    assert lora_targets(pipe, mask, component="text_encoder", targets=["fc1"])[0].endswith("layers.0.mlp.fc1")
    assert all("attn1" in name for name in lora_targets(unet, mask, r".*attn1\.to_[kv]"))
    assert "conv_in" in lora_targets(unet, mask, ["conv_in", "to_q"])
    llama = tiny_language.model("llama", 320)
    free = lora_targets(llama, ["model.layers.0.self_attn.q_proj.weight"])
    assert len(free) == 2 * 4 - 1
    assert "model.layers.0.self_attn.q_proj" not in free
    assert len(lora_targets(tiny_language.model("gpt2", 320), ["transformer.wte.weight"])) == 2 * 2


def test_targets_that_cannot_be_are_refused(unet_mask):
    unet, mask = unet_mask
    with pytest.raises(UserError, match=r"no layer of the model is called 'to_quary'; did you mean 'to_q'"):
        lora_targets(unet, mask, ["to_quary"])
    with pytest.raises(UserError, match=r"freezes the weights of all \d+ layers"):
        lora_targets(unet, mask, r".*attn2\.to_[kv]")
    with pytest.raises(UserError, match=r"no component 'unett'; did you mean 'unet'"):
        lora_targets(tiny.pipeline(), mask, component="unett")
    text = next(name for name, _ in tiny.pipeline().text_encoder.named_parameters())
    with pytest.raises(UserError, match="tensors of text_encoder and unet: say with component"):
        lora_targets(tiny.pipeline(), [mask.names[0], f"text_encoder.{text}"])


def test_a_name_that_peft_would_read_too_widely_is_refused():
    model = nn.ModuleDict({"to_q": nn.Linear(2, 2), "inner": nn.ModuleDict({"to_q": nn.Linear(2, 2)})})
    with pytest.raises(UserError, match=r"adapter for 'to_q' on the frozen 'inner\.to_q' as well"):
        lora_targets(model, ["inner.to_q.weight"])
    assert lora_targets(model, ["to_q.weight"]) == ["inner.to_q"]


# -- which are refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (LoraConfig(r=2, target_modules=["0"]), "a lora adapter"),
        (LoraConfig(r=2, target_modules=["0"], use_dora=True), "a dora adapter"),
        (LoraConfig(r=2, target_modules=["2"], modules_to_save=["0"]), "a full copy in modules_to_save"),
        (LoraConfig(r=2, target_parameters=["0.weight"]), "a lora adapter"),
        (LoHaConfig(r=2, target_modules=["0"]), "a loha adapter"),
        (IA3Config(target_modules=["0"], feedforward_modules=[]), "a ia3 adapter"),
    ],
)
def test_each_kind_of_adapter_on_a_frozen_tensor_is_refused_by_name(config, what):
    model = network()
    mask = HashedMask(model, ["0.weight"])
    before = values(model)
    wrapped = get_peft_model(model, config)
    for seen in (wrapped, model):
        with pytest.raises(MaskViolated, match=r"0\.weight") as caught:
            check_adapters(seen, mask)
        assert caught.value.tensors == {"0.weight": f"has {what}"}
    with pytest.raises(MaskViolated, match="before training"):
        enforce(wrapped, mask).start()
    assert Watch(wrapped, mask).moved() == {}  # the base itself has not moved: the adapter is the violation
    assert torch.equal(tensors(wrapped)["0.weight"], before["0.weight"])


def test_an_adapter_put_on_within_the_block_is_found():
    model = network()
    handle = enforce(model, ["0.weight"])

    def run():
        with handle:
            wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["0"]))
            with pytest.raises(MaskViolated, match=r"0\.weight \(has a lora adapter\)"):
                handle.check()
            wrapped.disable_adapter_layers()

    with pytest.raises(MaskViolated, match="at the end of the block"):
        run()


def test_biases_count_where_the_adapter_changes_them():
    model = network()
    plain = get_peft_model(network(), LoraConfig(r=2, target_modules=["0"]))
    check_adapters(plain, ["0.bias"])
    biased = get_peft_model(model, LoraConfig(r=2, target_modules=["0"], lora_bias=True))
    with pytest.raises(MaskViolated, match=r"0\.bias"):
        check_adapters(biased, ["0.bias"])


def test_trainable_tokens_of_a_frozen_embedding_are_refused():
    model = tiny_language.model("llama", 320)
    name = "model.embed_tokens.weight"
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1, 2]))
    with pytest.raises(MaskViolated) as caught:
        check_adapters(wrapped, [name])
    assert caught.value.tensors == {name: "has a trainable_tokens adapter"}
    check_adapters(wrapped, ["lm_head.weight", "model.layers.0.self_attn.k_proj.weight"])


# -- training and merging ------------------------------------------------------------------------------------


def test_lora_beside_a_mask_trains_and_merges_without_a_frozen_bit_moving():
    model = network()
    mask, before = HashedMask(model), values(model)
    with enforce(model, mask) as handle:
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=lora_targets(model, mask, ["0", "2"])))
        parameters = handle.optimizer_parameters()
        assert all(parameter.requires_grad for parameter in parameters)
        assert len(parameters) == 2
        fit(wrapped, torch.optim.AdamW(parameters, lr=1e-2))
        assert handle.steps == 5
        handle.check()
        merged = wrapped.merge_and_unload()
        handle.check()
    assert merged is model
    assert drift(model, before) == 0.0
    assert drift(model, before, ["2.weight"]) > 0


def test_merging_into_a_frozen_tensor_is_found_by_its_bits():
    model = network()
    handle = enforce(model, HashedMask(model))

    def run():
        with handle:
            wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
            wrapped.merge_and_unload()
            assert handle.moved() == {"0.weight": "changed"}

    with pytest.raises(MaskViolated, match=r"end of the block: 0\.weight"):
        run()
    assert model[0].weight.requires_grad


def test_pefts_bias_option_makes_a_frozen_bias_trainable_and_is_stopped():
    model = network()
    with enforce(model, ["0.bias"], check=False):
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["2"], bias="all"))
        optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-2)
        before = values(model)
        with pytest.raises(UserError, match=r"0\.bias became trainable again .*peft's bias option"):
            fit(wrapped, optimizer, 1)
    assert torch.equal(model[0].bias, before["0.bias"])
