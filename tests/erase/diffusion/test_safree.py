"""SAFREE against its definition: projectors, masked prompts, triggers, and the steps that are filtered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.guidance import Guidance
from oubliette.erase.diffusion.safree import (
    SAFREE,
    FilteredGuide,
    PromptFilter,
    basis,
    closing_rows,
    filter_steps,
    masked_rows,
    off_concept,
    triggers,
)

HOW: dict[str, Any] = {"steps": 3, "guidance": 3.0}
PROMPT = "a red car in the street"


def prompt_filter(**facts: Any) -> PromptFilter:
    published = SAFREE.Options().model_dump(exclude={"keywords"})
    return PromptFilter(words=("car",), **{**published, **facts})


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projector(span: torch.Tensor) -> torch.Tensor:
    """E (E^T E)^+ E^T, as the paper has it, of rows."""
    e = span.T
    return e @ torch.linalg.pinv(e.T @ e) @ e.T


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_a_basis_gives_the_papers_projector(seed: int, n: int) -> None:
    span = rows(seed, n, 9)
    made = basis(span)
    assert made.shape == (9, min(n, 9))
    torch.testing.assert_close(made @ made.T, projector(span), rtol=1e-7, atol=1e-7)


def test_words_that_mean_the_same_span_no_more() -> None:
    one = rows(0, 2, 6).float()
    made = basis(torch.cat([one, one, 2 * one[:1] - one[1:]]))
    assert made.shape == (6, 2)
    torch.testing.assert_close(made @ made.T, projector(one.double()))


@given(seed=st.integers(0, 10_000), n=st.integers(2, 7), alpha=st.sampled_from([0.0, 0.01, 0.2]))
@settings(max_examples=25, deadline=None)
def test_triggers_by_a_loop(seed: int, n: int, alpha: float) -> None:
    masked, concept = rows(seed, n, 8), rows(seed + 1, 2, 8)
    outside = torch.eye(8).double() - projector(concept)
    away = [float((outside @ row).norm()) for row in masked]
    expected = [away[i] >= (1 + alpha) * sum(away[j] for j in range(n) if j != i) / (n - 1) for i in range(n)]
    assert triggers(masked, basis(concept), alpha).tolist() == expected


def test_a_lone_token_is_a_trigger() -> None:
    assert triggers(rows(0, 1, 5), basis(rows(1, 1, 5)), 0.01).tolist() == [True]


def test_what_is_moved_lies_off_the_concept() -> None:
    own, concept, prompt = rows(0, 4, 7), rows(1, 2, 7), rows(2, 3, 7)
    moved = off_concept(own, basis(concept), basis(prompt))
    inside, outside = projector(prompt), torch.eye(7).double() - projector(concept)
    torch.testing.assert_close(moved, own @ inside @ outside)
    assert float((moved @ concept.T).abs().max()) < 1e-9


def test_masked_prompts_are_the_text_encoders_pooled_output() -> None:
    model = tiny_erasure.backend()
    tokenizer, encoder = model.pipe.tokenizer, model.pipe.text_encoder
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    count = ids.shape[1] - 2
    masked = ids.repeat(count, 1)
    for index in range(count):
        masked[index, index + 1] = 0
    with torch.no_grad():
        found = masked_rows(model, PROMPT)
        torch.testing.assert_close(found, encoder(masked).pooler_output, rtol=1e-5, atol=1e-5)
        whole = encoder(ids).pooler_output
    torch.testing.assert_close(closing_rows(model.encode_text([PROMPT])), whole, rtol=1e-5, atol=1e-5)
    assert masked_rows(model, "").shape == (0, 32)
    assert len(masked_rows(model, "a car " * 40)) == 14  # 16 tokens are read, two of them its own


def test_how_long_it_filters_grows_with_the_distance() -> None:
    options: dict[str, Any] = {"most": 10, "centre": 5.333, "slope": 2.5}
    made = [filter_steps(away / 100, **options) for away in range(101)]
    assert made == sorted(made)
    assert made[0] == 0
    assert made[-1] == 10
    assert filter_steps(0.5333, **options) == 5
    assert made[50] == round(10 / (1 + math.exp(-2 * 2.5 * (5.0 - 5.333))))


def by_definition(model: DiffusionBackend, prompt: str, alpha: float) -> tuple[torch.Tensor, float]:
    """The filtered embedding (L, d) and 1 - the mean cosine over the text, with dense projectors."""
    text = model.encode_text([prompt])
    own, length = text.hidden[0].double(), int(text.length[0])
    concept = projector(closing_rows(model.encode_text(["car"])).double())
    with torch.no_grad():
        masked = masked_rows(model, prompt).double()
    eye = torch.eye(own.shape[1]).double()
    moved = ((eye - concept) @ projector(masked) @ own.T).T
    away = ((eye - concept) @ masked.T).norm(dim=0)
    filtered = own.clone()
    for index in range(len(masked)):
        others = torch.cat([away[:index], away[index + 1 :]]).mean()
        if away[index] >= (1 + alpha) * others:
            filtered[index + 1] = moved[index + 1]
    cosines = torch.cosine_similarity(own[:length], moved[:length], dim=-1)
    return filtered, 1 - float(cosines.mean())


def test_it_draws_with_what_the_definition_says() -> None:
    model = tiny_erasure.backend()
    filtered, away = by_definition(model, PROMPT, 0.0)
    own = model.encode_text([PROMPT]).hidden[0]
    assert not torch.allclose(filtered.float(), own)
    made = prompt_filter(alpha=0.0)
    plain = Guidance(model.predict, model.encode_text([PROMPT]), model.unconditional(1), 3.0, 5, (PROMPT,))
    [(found, last)] = made._filtered(model, plain)
    torch.testing.assert_close(found, filtered.float(), rtol=1e-4, atol=1e-4)
    assert last == filter_steps(away, most=10, centre=5.333, slope=2.5)
    guide = made.guide(model, plain)
    latents = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    instead = replace(plain, text=replace(plain.text, hidden=filtered.float()[None]))
    for number in range(last + 3):
        with torch.no_grad():
            drawn = guide(number, torch.tensor(500), latents)
            expected = (instead if number <= last else plain)(number, torch.tensor(500), latents)
        torch.testing.assert_close(drawn, expected, rtol=1e-3, atol=1e-3)


def test_each_prompt_is_filtered_for_as_long_as_its_own() -> None:
    model = tiny_erasure.backend()
    seen: list[torch.Tensor] = []

    def network(noisy: torch.Tensor, t: torch.Tensor, text: Any) -> torch.Tensor:
        seen.append(text.hidden[len(noisy) // 2 :])
        return noisy

    text = model.encode_text(["a car", "a dog", ""])
    guide = FilteredGuide(
        Guidance(network, text, model.unconditional(3), 2.0, 4),
        torch.zeros_like(text.hidden),
        torch.tensor([0, 2, -1]),
    )
    for number in range(4):
        guide(number, torch.tensor(5), torch.zeros(3, *model.latent_shape))
    filtered = [[bool((row == 0).all()) for row in hidden] for hidden in seen]
    assert filtered == [
        [True, True, False],
        [False, True, False],
        [False, True, False],
        [False, False, False],
    ]


def test_prompts_without_a_trigger_are_drawn_as_ever() -> None:
    model = tiny_erasure.backend()
    prompts = [PROMPT, "", "a dog by the house"]
    plain = model.draw_latents(prompts, [1, 2, 3], **HOW)
    model.attach(prompt_filter(alpha=1e6, adaptive=False))
    assert torch.equal(model.draw_latents(prompts, [1, 2, 3], **HOW), plain)


def test_not_adaptive_is_every_step_and_negative_is_another_empty_prompt() -> None:
    model = tiny_erasure.backend()
    text, latents = model.encode_text([PROMPT]), torch.zeros(1, *model.latent_shape)
    plain = Guidance(model.predict, text, model.unconditional(1), 3.0, 60, (PROMPT,))
    [(filtered, last)] = prompt_filter(alpha=0.0, adaptive=False)._filtered(model, plain)
    assert last > 60
    guide = prompt_filter(alpha=0.0, adaptive=False, negative=True).guide(model, plain)
    both = replace(plain, text=replace(text, hidden=filtered[None]), empty=model.encode_text(["car"]))
    with torch.no_grad():
        assert torch.equal(guide(59, torch.tensor(9), latents), both(59, torch.tensor(9), latents))


def test_the_rows_behind_the_prompt_are_filtered_where_asked_for_and_they_alone_besides() -> None:
    model = tiny_erasure.backend()
    text = model.encode_text([PROMPT])
    plain = Guidance(model.predict, text, model.unconditional(1), 3.0, 5, (PROMPT,))
    [(left, _)] = prompt_filter(alpha=0.0)._filtered(model, plain)
    [(filtered, _)] = prompt_filter(alpha=0.0, padding=True)._filtered(model, plain)
    last = int(text.length) - 1
    assert torch.equal(filtered[:last], left[:last])
    with torch.no_grad():
        masked = masked_rows(model, PROMPT).double()
    own = text.hidden[0].double()
    concept = projector(closing_rows(model.encode_text(["car"])).double())
    moved = own @ projector(masked) @ (torch.eye(own.shape[1]).double() - concept)
    torch.testing.assert_close(filtered[last:], moved[last:].float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(left[last:], text.hidden[0, last:])


def test_it_draws_with_two_text_encoders() -> None:
    model = DiffusionBackend.from_pipeline(tiny.xl_pipeline())
    plain = model.draw_latents([PROMPT], [1], **HOW)
    model.attach(prompt_filter(alpha=0.0, adaptive=False))
    assert not torch.equal(model.draw_latents([PROMPT], [1], **HOW), plain)


def test_keywords_join_the_concepts_own_words() -> None:
    model = tiny_erasure.backend()
    options = SAFREE.Options(keywords=("truck", "car", " "))
    made = SAFREE(options, tiny_erasure.request()).attachment(model, None, [])  # type: ignore[arg-type]
    assert made.words == ("car", "truck")
