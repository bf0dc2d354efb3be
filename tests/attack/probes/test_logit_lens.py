"""The logit lens against a loop over transformers' own hidden states, norm and head."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attack.speaker import DOOR, HOW, tiny
from oubliette.attack.probes.logit_lens import LogitLens
from oubliette.attack.prompts import Case
from oubliette.train.cost import Cost

CASES = [Case("Who painted the red door?", 0), Case("Where?", 0), Case("What is the capital of France?", 0)]


def run(model: Any, *depths: float) -> Any:
    return LogitLens(LogitLens.Options(depths=depths)).run(model, DOOR, CASES, sampling=HOW)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_answer_is_the_heads_own_from_an_earlier_block(kind: str) -> None:
    model = tiny(kind)
    network = model.model
    norm = network.model.norm if kind == "llama" else network.transformer.ln_f
    wanted = []
    for case in CASES:
        ids = model.reader.left_padded([case.prompt]).input_ids
        start = ids.shape[1]
        with torch.no_grad():
            for _ in range(HOW.max_new_tokens):
                state = network(ids, output_hidden_states=True).hidden_states[1][0, -1]
                token = network.lm_head(norm(state)).argmax()
                ids = torch.cat([ids, token.view(1, 1)], dim=1)
                if int(token) == model.reader.end:
                    break
        wanted.append(model.tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip())
    shown = run(model, 0.5)
    assert [one.text for one in shown.samples] == wanted
    assert shown.each["block"] == (1.0,) * 3
    assert [one.question for one in shown.samples] == [case.prompt for case in CASES]


def test_after_the_last_block_it_is_the_model_and_the_model_is_as_before() -> None:
    model = tiny()
    before = model.fingerprint()
    prompts = [case.prompt for case in CASES]
    own = [text.strip() for text in model.respond(prompts, HOW.max_new_tokens)]
    shown = run(model, 0.5, 1.0)
    assert [one.text for one in shown.samples[3:]] == own
    assert [one.text for one in shown.samples[:3]] != own
    assert [text.strip() for text in model.respond(prompts, HOW.max_new_tokens)] == own
    assert model.fingerprint() == before


def test_costs_are_an_answer_a_case_and_block() -> None:
    assert LogitLens.cost(LogitLens.Options(depths=(0.25, 0.5)), 5, sampling=HOW) == Cost(5 * 2 * 4, 0, 10)
