"""The relearning attack: one file for pictures and for language; it looks where asked and leaves no trace."""

from __future__ import annotations

import json

import pytest
import torch

from attack.attacked import (
    MODES,
    answering,
    assert_untouched,
    budget,
    denoising,
    diffusion,
    language,
    snapshot,
)
from oubliette.attack.relearn import loop_seed, relearn
from oubliette.core.errors import UserError
from oubliette.eval.plan import seeds_for
from oubliette.train.gradients import micro_batch_rng


@pytest.mark.parametrize(("mode", "options"), MODES, ids=lambda value: str(value))
def test_every_mode_learns_and_leaves_every_bit(mode, options):
    model = diffusion()
    data = denoising(model)
    before, fingerprint = snapshot(model), model.fingerprint()
    vocabulary = model.pipe.tokenizer.get_vocab()
    tokens = model.pipe.tokenizer("a photo of a <concept> car").input_ids
    text = model.encode_text(["a car"]).hidden
    seen = []
    found = relearn(
        model,
        data,
        mode,
        budget(),
        options=options,
        at=(3, 0, 2),
        look=lambda step, at: seen.append((step, at.fingerprint())),
    )
    assert [step for step, _ in seen] == [0, 2, 3]
    assert len({print_of for _, print_of in seen}) == 3  # each look sees other weights
    assert len(found.records) == 3
    assert found.parameters > 0
    assert_untouched(model, before)
    assert model.fingerprint() == fingerprint
    assert model.pipe.tokenizer.get_vocab() == vocabulary
    assert model.pipe.tokenizer("a photo of a <concept> car").input_ids == tokens
    assert torch.equal(model.encode_text(["a car"]).hidden, text)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(("mode", "options"), [("full", {}), ("lora", {}), ("lora", {"targets": "wide"})])
def test_the_same_file_attacks_a_language_model(kind, mode, options):
    model = language(kind)
    data = answering(model)
    before = snapshot(model)
    likelihoods = []
    rows = data.draw(torch.Generator().manual_seed(0), 2)

    def look(step, at):
        with torch.no_grad():
            likelihoods.append(float(data.loss(at, rows)))

    spent = budget(steps=20, learning_rate=3e-2, clip=None)
    found = relearn(model, data, mode, spent, options=options, at=(0, 20), look=look)
    assert likelihoods[1] < likelihoods[0] - 0.2
    assert found.loss < found.records[0]["loss"]["fit"]
    assert_untouched(model, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_weights_of_16_bits_come_back_too(dtype, mode):
    model = language()
    model.model.to(dtype)
    before = snapshot(model)
    relearn(model, answering(model), mode, budget())
    assert_untouched(model, before)


@pytest.mark.parametrize(("mode", "options"), [MODES[0], MODES[4], MODES[7]])
def test_looks_change_nothing_and_runs_repeat(mode, options):
    def run(seed, **more):
        model = diffusion()
        return relearn(model, denoising(model), mode, budget(seed=seed), options=options, delta=True, **more)

    def look(step, model):
        torch.rand(7)
        model.draw(["a car"], [5], steps=2)

    plain, looked, other = run(1), run(1, at=(0, 1, 3), look=look), run(2)
    losses = [record["loss"]["fit"] for record in plain.records]
    assert [record["loss"]["fit"] for record in looked.records] == losses
    assert [record["loss"]["fit"] for record in other.records] != losses
    assert all(torch.equal(plain.delta[name], looked.delta[name]) for name in plain.delta)
    assert looked.look_seconds > 0 == plain.look_seconds


@pytest.mark.parametrize(("mode", "options"), [MODES[0], MODES[3], MODES[5]])
def test_keep_leaves_what_the_last_look_saw(mode, options):
    model = diffusion()
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    seen = []
    found = relearn(
        model,
        denoising(model),
        mode,
        budget(),
        options=options,
        at=(3,),
        look=lambda _, at: seen.append(at.fingerprint()),
        keep=True,
        delta=True,
    )
    assert model.fingerprint() == seen[0]
    assert model.tensors().keys() == before.keys()
    for name, tensor in model.tensors().items():
        moved = found.delta.get(name, torch.zeros_like(tensor))
        torch.testing.assert_close(tensor.detach(), before[name] + moved, rtol=0, atol=1e-6)


def test_a_look_that_fails_leaves_no_trace():
    model = diffusion()
    before = snapshot(model)

    def look(step, _):
        raise RuntimeError("the judge is ill")

    for mode, options in MODES:
        with pytest.raises(RuntimeError, match="ill"):
            relearn(model, denoising(model), mode, budget(), options=options, at=(2,), look=look)
        assert_untouched(model, before)


@pytest.mark.parametrize(("mode", "options"), MODES, ids=lambda value: str(value))
def test_a_full_mask_leaves_every_bit(mode, options):
    model = diffusion()
    before = snapshot(model)
    with pytest.raises(UserError, match=r"nothing is left to train|which a new token would be added to"):
        relearn(model, denoising(model), mode, budget(), options=options, frozen=list(model.tensors()))
    assert_untouched(model, before)


@pytest.mark.parametrize(("mode", "options"), [MODES[0], MODES[1], MODES[3], MODES[4], MODES[5]])
def test_a_mask_is_honoured(mode, options, tmp_path):
    model = diffusion()
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    frozen = [name for name in before if "to_k" in name or "to_out" in name or "fc1" in name]
    (tmp_path / "mask.txt").write_text("\n".join(frozen))
    relearn(model, denoising(model), mode, budget(), options=options, frozen=tmp_path / "mask.txt", keep=True)
    changed = {name for name, tensor in model.tensors().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not changed & set(frozen)


def test_bad_requests_are_one_line():
    model = diffusion()
    data = denoising(model)
    before = snapshot(model)
    with pytest.raises(UserError, match="cannot look at step 4: its steps are 0 to 3"):
        relearn(model, data, "full", budget(), at=(0, 4), look=lambda *_: None)
    with pytest.raises(UserError, match="cannot look at step -1"):
        relearn(model, data, "full", budget(), at=(-1,), look=lambda *_: None)
    with pytest.raises(UserError, match="no mode is called 'ful'; did you mean 'full'"):
        relearn(model, data, "ful", budget())
    with pytest.raises(UserError, match="unknown key 'target'; did you mean 'targets'"):
        relearn(model, data, "lora", budget(), options={"target": "attention"})
    with pytest.raises(UserError, match=r"has no tensor 'unet.nothing'"):
        relearn(model, data, "full", budget(), frozen=["unet.nothing"])
    with pytest.raises(UserError, match="selects no tensor"):
        relearn(language(), data, "xattn", budget())
    assert_untouched(model, before)


def test_the_log_is_written(tmp_path):
    model = diffusion()
    relearn(model, denoising(model), "xattn-kv", budget(), log=tmp_path / "log.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["loss"]["fit"] > 0 for row in rows)


def test_seeds_are_no_erasers_and_no_evaluations():
    seeds = [loop_seed(seed) for seed in range(200)]
    assert len(set(seeds)) == 200
    assert min(seeds) > 2**32  # an eraser's seed is a small number of the user's
    noise = {micro_batch_rng(seed, step, 0).initial_seed() for seed in seeds[:20] for step in range(50)}
    drawn = set(seeds_for("target/object/car/in-set", 1000, 0))
    assert not noise & drawn
