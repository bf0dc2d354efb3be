"""Forget-Me-Not's loss from the attention's own formula, and that the attention turns away."""

from __future__ import annotations

import pytest
import torch

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.fmn import ForgetMeNot
from oubliette.erase.request import PromptPair
from oubliette.train.gradients import micro_batch_rng


def softmaxed(case: tiny_erasure.Prepared, draw: dict) -> list[torch.Tensor]:
    """softmax(Q K^T / sqrt(d)) of every cross-attention layer, (B, heads, pixels, tokens), by hand."""
    inputs: dict[str, dict[str, torch.Tensor]] = {}
    handles, layers = [], {}
    for name, module in case.model.pipe.unet.named_modules():
        if name.endswith("attn2"):
            layers[name] = module
            for part in ("to_q", "to_k"):
                kept = inputs.setdefault(name, {})
                handles.append(
                    getattr(module, part).register_forward_hook(
                        lambda _, __, out, kept=kept, part=part: kept.__setitem__(part, out)
                    )
                )
    with torch.no_grad():
        text = case.model.encode_text(draw["target"]).hidden
        case.model.pipe.unet(draw["noisy"], draw["t"], encoder_hidden_states=text)
    for handle in handles:
        handle.remove()
    found = []
    for name, module in layers.items():
        q, k = (inputs[name][part].unflatten(-1, (module.heads, -1)) for part in ("to_q", "to_k"))
        scores = torch.einsum("bphd,bthd->bhpt", q, k) / q.shape[-1] ** 0.5
        found.append(scores.softmax(dim=-1))
    return found


@pytest.mark.parametrize("norm", ["squared", "plain"])
@pytest.mark.parametrize("end_token", [True, False])
def test_the_loss_is_brute_force(norm: str, end_token: bool) -> None:
    case = tiny_erasure.Prepared(ForgetMeNot, scope="xattn", norm=norm, end_token=end_token)
    draw = case.draw()
    tokenizer = case.model.tokenizers[0]
    maps = softmaxed(case, draw)
    assert len(maps) > 1
    norms = []
    for row, prompt in enumerate(draw["target"]):
        ids = tokenizer(prompt).input_ids
        own = [at for at, token in enumerate(ids) if tokenizer.decode([token]).strip() == "car"]
        assert len(own) == 1
        own += [len(ids) - 1] if end_token else []
        norms.append(sum((each[row][..., at] ** 2).sum() for each in maps for at in own))
    expected = torch.stack(norms)
    expected = (expected if norm == "squared" else expected.sqrt()).mean()
    with torch.no_grad():
        torch.testing.assert_close(case.method.loss("forget", draw), expected, rtol=1e-4, atol=1e-6)


def test_it_turns_the_attention_away_from_the_concept_by_queries_and_keys() -> None:
    loop = tiny_erasure.loop(ForgetMeNot, steps=25, scope="xattn", train={"weight_decay": 0.0})
    objective = loop.objective
    probe = objective.draw(0, micro_batch_rng(1, 0, 0), 6)
    before = float(objective.loss("forget", probe).detach())
    loop.run()
    after = float(objective.loss("forget", probe).detach())
    assert after < 0.95 * before
    delta = loop.weights.delta()
    first = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2."
    assert all(float(delta[f"{first}{part}.weight"].abs().max()) > 0 for part in ("to_q", "to_k"))
    # No attention comes after the last layer's values, so none draws on them.
    last = [name for name in loop.weights.names if "up_blocks" in name and name.endswith("to_v.weight")][-1]
    assert float(delta[last].abs().max()) == 0


def test_a_name_of_several_tokens_a_synonym_and_two_concepts_are_found() -> None:
    asked = tiny_erasure.request(
        tiny_erasure.CAR,
        tiny_erasure.VAN_GOGH,
        pairs=(
            PromptPair("a red car in van gogh style", "a red object in van gogh style", 0),
            PromptPair("a red car in van gogh style", "a red car", 1),
        ),
    )
    case = tiny_erasure.Prepared(ForgetMeNot, asked=asked, end_token=False)
    tokenizer = case.model.tokenizers[0]
    ids = tokenizer("a red car in van gogh style").input_ids
    own = tokenizer("van gogh", add_special_tokens=False).input_ids
    assert len(own) > 1
    assert case.method._tokens[0] == [3]
    assert [ids[at] for at in case.method._tokens[1]] == own
    model = DiffusionBackend.from_pipeline(tiny.xl_pipeline())
    wide = tiny_erasure.Prepared(ForgetMeNot, model=model, asked=asked)
    assert wide.method._tokens[0] == [3, len(ids) - 1]
    assert float(wide.method.loss("forget", wide.draw()).detach()) > 0


def test_prompts_cut_before_the_concept_teach_nothing() -> None:
    long = "a red house by a street in a field near a big dog and a car"
    pairs = (PromptPair("a car", "an object"), PromptPair(long, "an object"))
    with pytest.warns(UserWarning, match="3 of 6 prompts are cut before they name the concept"):
        case = tiny_erasure.Prepared(ForgetMeNot, asked=tiny_erasure.request(pairs=pairs))
    draw = case.draw()
    draw["items"], draw["target"] = [1] * 4, [long] * 4
    assert float(case.method.loss("forget", draw).detach()) == 0
    with pytest.raises(UserError, match="6 of 6 prompts are cut"):
        tiny_erasure.Prepared(ForgetMeNot, asked=tiny_erasure.request(pairs=pairs[1:]))


def test_a_prompt_without_the_concept_is_refused() -> None:
    asked = tiny_erasure.request(pairs=(PromptPair("a red truck", "a red object"),))
    with pytest.raises(UserError, match=r"'a red truck' does not name 'car'"):
        tiny_erasure.Prepared(ForgetMeNot, asked=asked)
