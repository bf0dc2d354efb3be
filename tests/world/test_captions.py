"""Captions say true things, vary, and keep the withheld words from what erasers are given."""

from __future__ import annotations

import re

import numpy as np
import pytest

from oubliette.core.errors import UserError
from oubliette.world import facts
from oubliette.world.captions import (
    SPLITS,
    TEMPLATES,
    anchor_prompts,
    caption,
    erase_pairs,
    evaluation_prompts,
    labelled_prompts,
    retain_prompts,
)
from oubliette.world.scene import Scene, random_scene

CONCEPTS = facts.DEFAULT_CONCEPTS + facts.DEVELOPMENT_CONCEPTS


def _has(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def test_a_caption_names_nothing_that_is_not_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        scene = random_scene(rng)
        text = caption(scene, rng)
        for kind, own in (("object", scene.object), ("person", scene.person), ("style", scene.style)):
            for name, fact in facts.TABLES[kind].items():
                if name != own and not any(_has(" ".join(fact.words), w) for w in ("glass",)):
                    assert not any(_has(text, word) for word in fact.words + fact.withheld), (text, scene)


def test_one_caption_in_ten_is_empty() -> None:
    rng = np.random.default_rng(1)
    scene = Scene("car", "none", "flat", "red", 0)
    share = np.mean([caption(scene, rng) == "" for _ in range(3000)])
    assert 0.08 < share < 0.12


def test_captions_vary() -> None:
    rng = np.random.default_rng(2)
    assert len({caption(Scene("car", "none", "flat", "red", 0), rng) for _ in range(500)}) > 100


@pytest.mark.parametrize("concept", CONCEPTS, ids=[c[0] for c in CONCEPTS])
def test_pairs_differ_in_the_concept_alone_and_hold_nothing_withheld(concept: tuple[str, str, str]) -> None:
    name, anchor, kind = concept
    fact = facts.TABLES[kind][name]
    # A surname alone is withheld, but it is part of the full name, which is not.
    withheld = {w for kind_ in ("object", "style") for f in facts.TABLES[kind_].values() for w in f.withheld}
    for target, plain in erase_pairs(name, anchor, kind, 300, 0):
        assert any(_has(target, word) for word in fact.words)
        assert not any(_has(plain, word) for word in fact.words), plain
        for text in (target, plain):
            assert not any(_has(text, word) for word in withheld - set(fact.words)), text
            assert "{" not in text
            assert not re.search(r"\ba [aeio]", text), text
    assert erase_pairs(name, anchor, kind, 20, 3) == erase_pairs(name, anchor, kind, 20, 3)


@pytest.mark.parametrize("concept", CONCEPTS, ids=[c[0] for c in CONCEPTS])
def test_withheld_prompts_use_withheld_templates_and_words(concept: tuple[str, str, str]) -> None:
    name, _, kind = concept
    given = {target for target, _ in erase_pairs(name, concept[1], kind, 400, 0)}
    prompts = evaluation_prompts(name, kind, 100, "withheld", 0)
    assert not given & set(prompts)
    assert all(any(_has(p, w) for w in facts.TABLES[kind][name].withheld) for p in prompts)
    assert all(
        not any(_has(p, w) for w in facts.TABLES[kind][name].words) or kind == "person" for p in prompts
    )


def test_templates_of_the_two_splits_are_disjoint() -> None:
    for mention in TEMPLATES.values():
        assert not set(mention[SPLITS[0]]) & set(mention[SPLITS[1]])


def test_retain_prompts_never_name_what_is_excluded() -> None:
    for prompt in retain_prompts(["car", "engraving", "Mira Voss"], 400, 0):
        for word in ("car", "coupe", "engraving", "engraved", "Mira"):
            assert not _has(prompt, word), prompt


def test_anchor_prompts_do_not_name_the_concept() -> None:
    for name, anchor, kind in CONCEPTS:
        for prompt in anchor_prompts(anchor, kind, 100, 0, concept=name):
            assert not any(_has(prompt, word) for word in facts.TABLES[kind][name].words), prompt


def test_labelled_prompts_name_their_labels() -> None:
    for prompt, labels in labelled_prompts(300, 0):
        for kind in ("object", "person", "style"):
            if labels[kind] != "none":
                fact = facts.TABLES[kind][labels[kind]]
                assert any(_has(prompt, word) for word in fact.words + fact.withheld)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UserError, match="in-set, withheld"):
        evaluation_prompts("car", "object", 3, "test", 0)
