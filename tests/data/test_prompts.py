"""Pairs differ in the concept alone, withheld sentences stay withheld, a seed gives the same prompts."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.data.concept import KINDS, Concept
from oubliette.data.prompts import TextBank, as_generator, bank_from_file, load_bank
from oubliette.data.words import fill

CAR = Concept("airplane", "car")
STYLE = Concept("Van Gogh", "painting", "style")
ADA = Concept("Ada Lovelace", "person", "person")


@pytest.fixture(scope="module")
def bank() -> TextBank:
    general = load_bank("general")
    assert isinstance(general, TextBank)
    return general


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_banks_are_large_and_withhold_a_part(bank: TextBank, kind: str) -> None:
    given = [line.text for line in bank.sentences[kind].get("templates")]
    held = [line.text for line in bank.sentences[kind].get("withheld")]
    assert len(set(given)) == len(given) >= 60
    assert len(set(held)) == len(held) >= 20
    assert not set(given) & set(held)
    assert all(text.count("{}") == 1 and text.isascii() and text == text.strip() for text in given + held)


def test_object_pairs_put_the_concept_in_the_anchors_place(bank: TextBank) -> None:
    templates = {line.text for line in bank.sentences["object"].get("templates")}
    pairs = bank.pairs(CAR, 200, 0)
    assert len(pairs) == 200
    for target, anchor in pairs:
        assert (target, anchor) in {(fill(t, "airplane"), fill(t, "car")) for t in templates}
    assert {target for target, _ in pairs[: len(templates)]} == {fill(t, "airplane") for t in templates}
    assert not [target for target, _ in pairs if "a airplane" in target]


def test_style_pairs_add_the_style_to_the_anchors_sentence(bank: TextBank) -> None:
    pairs = bank.pairs(STYLE, 300, 0)
    after = sum(target == f"{anchor}, in the style of Van Gogh" for target, anchor in pairs)
    before = sum(target == f"in Van Gogh's style, {anchor}" for target, anchor in pairs)
    assert (after, before) == (100, 200)
    assert all("painting" in anchor and "Gogh" not in anchor for _, anchor in pairs)


def test_a_person_takes_the_place_of_a_person(bank: TextBank) -> None:
    pairs = bank.pairs(ADA, 50, 0)
    assert all("Ada Lovelace" in target for target, _ in pairs)
    assert all(anchor == target.replace("Ada Lovelace", "a person") for target, anchor in pairs)


def test_synonyms_take_turns(bank: TextBank) -> None:
    pairs = bank.pairs(Concept("car", "object", synonyms=("automobile",)), 10, 0)
    assert sum("automobile" in target for target, _ in pairs) == 5


def test_an_empty_anchor_is_the_empty_prompt(bank: TextBank) -> None:
    assert {anchor for _, anchor in bank.pairs(Concept("car", ""), 5, 0)} == {""}
    assert {anchor for _, anchor in bank.pairs(Concept("Monet", "", "style"), 5, 0)} == {""}


@pytest.mark.parametrize("concept", [CAR, STYLE, ADA])
def test_withheld_prompts_are_in_no_pair(bank: TextBank, concept: Concept) -> None:
    trained = {target for target, _ in bank.pairs(concept, 1000, 0)}
    withheld = bank.evaluation(concept, 200, "withheld")
    assert not trained & set(withheld)
    assert all(concept.name in prompt for prompt in withheld)
    assert set(bank.evaluation(concept, 40)) <= trained


def test_anchor_prompts_are_the_evaluation_prompts_with_the_anchor(bank: TextBank) -> None:
    for split in ("in-set", "withheld"):
        named = bank.evaluation(ADA, 30, split, seed=4)
        assert bank.anchor_evaluation(ADA, 30, 4, split) == [
            p.replace("Ada Lovelace", "a person") for p in named
        ]


def test_seeds_decide(bank: TextBank) -> None:
    assert bank.pairs(CAR, 20, 1) == bank.pairs(CAR, 20, np.random.default_rng(1)) != bank.pairs(CAR, 20, 2)
    assert bank.evaluation(CAR, 20) == bank.evaluation(CAR, 20, seed=0) != bank.evaluation(CAR, 20, seed=1)
    one, two = (bank.pairs(CAR, 20, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one == two
    generator = as_generator(5)
    assert bank.pairs(CAR, 20, generator) != bank.pairs(CAR, 20, generator)
    assert bank.pairs(CAR, 0, 0) == []


def test_retained_captions_name_none_of_the_concepts(bank: TextBank) -> None:
    horse = Concept("horse", "animal", synonyms=("ship",))
    kept = bank.retain(horse, 400, 0)
    assert len(kept) == 400
    assert not [caption for caption in kept if "horse" in caption or "ship " in caption]
    both = bank.retain([horse, Concept("cat", "animal")], 400, 0)
    assert not [caption for caption in both if "a cat " in caption or "horse" in caption]
    assert [caption for caption in bank.retain(Concept("car", "object"), 400, 0) if "horse" in caption]


def test_the_worlds_bank_is_its_caption_grammar() -> None:
    from oubliette.world import captions

    world = load_bank("world")
    car = Concept("car", "object")
    assert world.pairs(car, 6, 3) == captions.erase_pairs("car", "object", "object", 6, 3)
    assert world.evaluation(car, 6, "withheld", 2) == captions.evaluation_prompts(
        "car", "object", 6, "withheld", 2
    )
    assert world.anchor_evaluation(car, 6) == captions.anchor_prompts("object", "object", 6, 0, concept="car")
    assert world.retain([car], 6, 1) == captions.retain_prompts(["car"], 6, 1)
    with pytest.raises(UserError, match="did you mean 'withheld'"):
        world.evaluation(car, 6, "with-held")


def test_a_users_own_sentences(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        "# mine\na {} in my street\n\nMy old Car in the rain\n[withheld]\nthe {} I sold\n[retain]\na tree\n"
    )
    own = bank_from_file(path)
    pairs = own.pairs(CAR, 2, 0)
    assert sorted(pairs) == [
        ("My old airplane in the rain", "My old Car in the rain"),
        ("an airplane in my street", "a car in my street"),
    ]
    assert own.evaluation(CAR, 1, "withheld") == ["the airplane I sold"]
    assert own.retain(CAR, 2, 0) == ["a tree", "a tree"]
    styled = load_bank(path).pairs(STYLE, 3, 0)
    assert {anchor for _, anchor in styled} == {"a painting in my street", "My old Car in the rain"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"\[templates\]"),
        (b"a {}\n[templates]\n[with held]\n", "line 3.*did you mean 'withheld'"),
        (b"a {}\n[phrases]\nlike {c}\n", "line 3.*phrase"),
        (b"\xff\xfe\xfa", "UTF-8"),
    ],
)
def test_broken_bank_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        bank_from_file(path)


def test_what_a_bank_cannot_give_is_said(bank: TextBank, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a truck on a road\n")
    with pytest.raises(UserError, match=r"line 1.*neither a slot"):
        bank_from_file(path).pairs(CAR, 1, 0)
    with pytest.raises(UserError, match="withheld"):
        bank_from_file(path).evaluation(CAR, 1, "withheld")
    with pytest.raises(UserError, match=r"no prompt bank 'wrld'.*did you mean 'world'"):
        load_bank("wrld")
    with pytest.raises(UserError, match="no prompt split"):
        bank.evaluation(CAR, 1, "test")
    with pytest.raises(UserError, match="cannot be read"):
        bank_from_file(tmp_path / "absent.txt")


def test_banks_are_shipped_with_the_package() -> None:
    shipped = {entry.name for entry in (files("oubliette.data") / "banks").iterdir()}
    assert shipped == {"object.txt", "style.txt", "person.txt", "retain.txt", "refusals.txt"}
