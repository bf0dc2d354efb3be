"""Which tensors of a user's model a mask means, in whatever form both are given."""

from __future__ import annotations

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

import tiny
import tiny_language
from guard.enforcing import HashedMask, network
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.guard.enforce.enforce import enforce
from oubliette.guard.enforce.watch import Watch
from oubliette.guard.mask import Mask
from oubliette.guard.names import tensors


@pytest.fixture
def unet_mask():
    """A tiny pipeline and a mask of its cross-attention's keys and values and one norm."""
    pipe = tiny.pipeline()
    model = DiffusionBackend.from_pipeline(pipe)
    names = [*model.text_facing(), "unet.conv_norm_out.weight"]
    return pipe, Mask.make(model, names)


def test_pipeline_backend_module_and_mapping_are_the_same_model(unet_mask):
    pipe, mask = unet_mask
    wanted = {id(dict(pipe.unet.named_parameters())[name.removeprefix("unet.")]) for name in mask.names}
    for model in (pipe, DiffusionBackend.from_pipeline(pipe), pipe.unet, {"unet": pipe.unet}):
        with enforce(model, mask) as handle:
            frozen = {id(p) for p in pipe.unet.parameters() if not p.requires_grad}
            assert wanted <= frozen
            assert handle.moved() == {}
    compiled = torch.compile(pipe.unet)
    assert Watch(compiled, mask).moved() == {}
    assert Watch(AveragedModel(pipe.unet), mask).moved() == {}


def test_a_mask_from_its_folder_and_from_a_list(unet_mask, tmp_path):
    pipe, mask = unet_mask
    mask.write(tmp_path / "mask")
    (tmp_path / "names.txt").write_text("\n".join(mask.names))
    for form in (
        tmp_path / "mask",
        str(tmp_path / "mask" / "guard.json"),
        tmp_path / "names.txt",
        mask.names,
    ):
        with enforce(pipe, form) as handle:
            assert handle.names == mask.names


def test_components_that_are_not_there_are_asked_for(unet_mask):
    pipe, mask = unet_mask
    text = next(
        name for name in DiffusionBackend.from_pipeline(pipe).tensors() if name.startswith("text_enc")
    )
    both = [mask.names[0], text]
    with pytest.raises(
        UserError, match=r'freezes tensors of text_encoder too.*\{"unet": ..., "text_encoder"'
    ):
        enforce(pipe.unet, both)
    with enforce({"unet": pipe.unet, "text_encoder": pipe.text_encoder}, both) as handle:
        assert handle.names == both
    with enforce(
        pipe.text_encoder, [text]
    ):  # its own names have the level that transformers 5 took out, or not
        pass


def test_wrong_masks_are_refused_in_one_line(unet_mask):
    pipe, mask = unet_mask
    cases = [
        (network(), mask, "the mask is not of this model"),
        (pipe, ["unet.conv_in.wieght"], r"no tensor of that name; the nearest is .*conv_in\.weight"),
        (tiny.pipeline(seed=1), mask, "not as the mask's base has them"),
        (tiny.xl_pipeline(), mask, r"the mask is (of another|not of this) model"),
        (pipe, [], "freezes no tensor"),
        ("a name", mask, "cannot be laid on a str"),
        (torch.nn.Linear(2, 2, device="meta"), ["weight"], "without values"),
    ]
    for model, form, told in cases:
        with pytest.raises(UserError, match=told) as caught:
            enforce(model, form).start()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_quantised_shapes_are_named():
    model = network()
    mask = HashedMask(model)
    model[0].weight = torch.nn.Parameter(torch.zeros(24, 1))
    with pytest.raises(UserError, match=r"0\.weight is \(24, 1\), the mask's \(8, 6\) \(a quantised model"):
        enforce(model, mask)


def test_tied_tensors_are_held_by_either_name():
    model = network()
    model.add_module("tied", torch.nn.Linear(6, 8))
    model.tied.weight = model[0].weight
    assert tensors(model)["tied.weight"] is tensors(model)["0.weight"]
    with enforce(model, ["tied.weight"]):
        assert not model[0].weight.requires_grad


def test_wrappers_inside_a_model_are_seen_through():
    model = network()
    mask = HashedMask(model)
    model[0] = checkpoint_wrapper(model[0])
    assert "0._checkpoint_wrapped_module.weight" in dict(torch.nn.Module.named_parameters(model))
    assert Watch(model, mask).moved() == {}
    model[0] = torch.compile(network()[0])
    assert Watch(model, mask).moved() == {}
    flat = torch.nn.Module()
    flat.add_module("_fsdp_wrapped_module", model)
    with pytest.raises(UserError, match=r"wrapped by FSDP1.*a mask needs FSDP2"):
        enforce(flat, mask)


def test_a_language_model_as_backend_whole_and_without_its_head(tmp_path):
    backend = LanguageBackend.open(tiny_language.save(tmp_path / "llama", "llama"), device="cpu")
    names = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
    mask = Mask.make(backend, names)
    for model in (backend, backend.model, backend.model.model, {"model": backend.model.model}):
        with enforce(model, mask) as handle:
            assert handle.moved() == {}
            assert {n for n, p in backend.model.named_parameters() if not p.requires_grad} >= set(names)
    with pytest.raises(UserError, match=r"lm_head too.*only one component was given"):
        enforce(backend.model.model, [*names, "lm_head.weight"])
