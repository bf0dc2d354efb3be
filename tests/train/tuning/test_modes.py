"""What each mode trains, and that caches of the text follow it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from attack.attacked import MODES, TOKEN, assert_untouched, budget, denoising, diffusion, language, snapshot
from oubliette.attack import ATTACKS
from oubliette.attack.relearn import relearn
from oubliette.attack.types import NEEDS
from oubliette.core.errors import UserError
from oubliette.train.cost import Cost
from oubliette.train.scope import select
from oubliette.train.tuning import MODES as REGISTERED
from oubliette.train.tuning.modes import open_mode, rewording


@pytest.mark.parametrize("name", list(REGISTERED))
def test_every_mode_says_what_it_is(name):
    kind = REGISTERED.get(name)
    assert ATTACKS.get(name) is kind
    assert (kind.name, kind.kind) == (name, "relearn")
    assert kind.about
    assert "20" in kind.paper
    assert kind.needs <= set(NEEDS)


def test_names_are_listed_without_torch():
    code = "import sys, oubliette.attack as a; assert list(a.ATTACKS); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("mode", ["full", "xattn", "xattn-kv", "text-encoder"])
def test_scoped_modes_train_their_scope(mode):
    model = diffusion()
    scope = list(select(model, mode))
    with open_mode(model, mode, budget()) as trained:
        assert list(trained.parameters) == scope
        assert not trained.element_masks
        assert trained.prompts("a car") == "a car"
    with open_mode(model, mode, budget(), frozen=(name for name in scope[1:])) as trained:
        assert list(trained.parameters) == scope[:1]


def test_prompts_are_known_before_the_attack():
    assert rewording("full") is None
    assert rewording("lora", {"targets": "wide"}) is None
    change = rewording("textual-inversion", {"words": ["car", "sports coupe"]})
    assert change is not None
    assert change("A Car, two cars and a scarf; a sports  coupe") == (
        "A <concept>, two <concept> and a scarf; a <concept>"
    )
    with pytest.raises(UserError, match="'words' is missing"):
        rewording("textual-inversion")


@pytest.mark.parametrize(("mode", "options"), [MODES[3], MODES[5], MODES[7]], ids=lambda value: str(value))
def test_cached_text_is_the_text_of_now(mode, options):
    """At every look, and after: what the cache gives is what the encoder gives without one."""
    model = diffusion()
    prompt = "a <concept>" if mode == "textual-inversion" else "a car"
    cached = []

    def look(_, at):
        cached.append(at.encode_text([prompt]).hidden)
        torch.testing.assert_close(cached[-1], at.encode_text([prompt], grad=True).hidden.detach())

    before = model.encode_text(["a car"]).hidden
    for _ in range(2):
        relearn(model, denoising(model), mode, budget(), options=options, at=(0, 1, 2, 3), look=look)
        assert torch.equal(model.encode_text(["a car"]).hidden, before)
    assert not any(torch.equal(cached[0], later) for later in cached[1:4])
    assert all(torch.equal(*pair) for pair in zip(cached[:4], cached[4:], strict=True))


def test_only_the_new_row_learns():
    model = diffusion()
    embedding = model.pipe.text_encoder.get_input_embeddings()
    old = embedding.weight.detach().clone()
    words = model.pipe.tokenizer("vehicle", add_special_tokens=False).input_ids
    rows = []

    def look(_, at):
        new = at.tensors()["text_encoder.embeddings.token_embedding.weight"].detach()
        assert new.shape == (len(old) + 1, old.shape[1])
        assert torch.equal(new[:-1], old)
        number = at.pipe.tokenizer("a <concept>").input_ids[2]
        assert number == len(old)
        assert at.pipe.tokenizer.decode([number]).strip() == "<concept>"
        rows.append(new[-1].clone())

    before = snapshot(model)
    found = relearn(
        model,
        denoising(model),
        "textual-inversion",
        budget(weight_decay=0.5),
        options=TOKEN,
        at=(0, 3),
        look=look,
    )
    assert found.parameters == old.shape[1]
    torch.testing.assert_close(rows[0], old[words].mean(0))
    assert not torch.equal(rows[0], rows[1])
    assert_untouched(model, before)


def test_a_kept_token_stays():
    model = diffusion()
    rows = len(model.pipe.tokenizer)
    relearn(model, denoising(model), "textual-inversion", budget(), options=TOKEN, keep=True)
    assert model.pipe.tokenizer("<concept>").input_ids[1] == rows
    assert len(model.pipe.text_encoder.get_input_embeddings().weight) == rows + 1
    assert model.encode_text(["a <concept>"]).length.tolist() == [4]
    with pytest.raises(UserError, match="'<concept>' is in the model's vocabulary already"):
        relearn(model, denoising(model), "textual-inversion", budget(), options=TOKEN)


def test_a_token_needs_words_and_a_text_encoder():
    model = diffusion()
    with pytest.raises(UserError, match="no caption holds the words to be replaced"):
        relearn(model, denoising(model), "textual-inversion", budget(), options={"words": ["boat"]})
    with pytest.raises(UserError, match="needs a text encoder"):
        relearn(language(), denoising(model), "textual-inversion", budget(), options=TOKEN)
    with pytest.raises(UserError, match="needs data whose texts can be reworded, found object"):
        relearn(model, object(), "textual-inversion", budget(), options=TOKEN)  # type: ignore[arg-type]


def test_costs_add_up():
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
    spent = budget(steps=7, batch=3, accumulation=2)
    assert spent.cost() == Cost(forwards=42, backwards=42)
    assert spent.cost(prior=True) == Cost(forwards=84, backwards=84)
