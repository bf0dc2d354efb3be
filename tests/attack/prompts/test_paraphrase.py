"""Paraphrases: synonyms in the sentence, withheld sentences, the world's own words."""

from __future__ import annotations

from typing import Any

import pytest

from attack.prompts.fakes import Drawer, white
from oubliette.attack.prompts import Case, build
from oubliette.attack.prompts.attack import Job
from oubliette.attack.prompts.paraphrase import reworded, synonyms
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank
from oubliette.world.facts import PICTURE
from oubliette.world.world import OPEN

CAR = Concept("car", "vehicle", synonyms=("automobile", "motor"))
ENGRAVING = Concept("engraving", "picture", "style")


@pytest.mark.parametrize(
    ("prompt", "concept", "word", "expected"),
    [
        ("a photo of a car", CAR, "automobile", "a photo of an automobile"),
        ("A car, and another car.", CAR, "automobile", "An automobile, and another automobile."),
        ("a red motor", CAR, "automobile", "a red automobile"),
        ("an engraving picture", ENGRAVING, "mosaic", "a mosaic picture"),
        ("a portrait of Mira Voss", Concept("Mira Voss", "person", "person"), "Voss", "a portrait of Voss"),
        ("a cartoon", CAR, "automobile", None),
        ("a house", CAR, "automobile", None),
    ],
)
def test_a_synonym_takes_the_concepts_place(
    prompt: str, concept: Concept, word: str, expected: str | None
) -> None:
    assert reworded(prompt, concept, ["automobile", "motor"], word) == expected


def test_a_prompt_is_not_reworded_to_itself() -> None:
    assert reworded("an automobile", CAR, ["automobile"], "automobile") is None


def test_synonyms_are_the_users_and_the_worlds() -> None:
    assert synonyms(CAR, OPEN) == ["automobile", "motor"]
    assert synonyms(Concept("car", "vehicle"), PICTURE) == ["automobile", "sedan", "coupe"]
    # Asked for by another of its words, the world's own name is a synonym too; the anchor never is.
    assert synonyms(Concept("sedan", "coupe"), PICTURE) == ["car", "automobile"]
    assert synonyms(Concept("zebra", "animal"), PICTURE) == []


def paraphrases(concept: Concept, prompt: str, world: str | None = None, **options: Any) -> list[str]:
    model = Drawer()
    model.world = world  # type: ignore[assignment]
    attack = build("paraphrase", options)
    job = Job(model, None, concept, [Case(prompt, 1)], None, 0, "paraphrase")  # type: ignore[arg-type]
    found: list[str] = attack.paraphrases(job, 0)
    return found


def test_own_sentences_come_first_then_withheld_ones() -> None:
    found = paraphrases(CAR, "a photo of a car", tries=6)
    assert found[:2] == ["a photo of an automobile", "a photo of a motor"]
    assert len(found) == len(set(found)) == 6
    bank = load_bank("general")
    known = {text for seed in range(40) for text in bank.evaluation(CAR, 40, "in-set", seed)}
    assert not known & set(found[2:])


def test_parts_can_be_chosen() -> None:
    assert paraphrases(CAR, "a photo of a car", sentences="own") == [
        "a photo of an automobile",
        "a photo of a motor",
    ]
    assert "a photo of an automobile" not in paraphrases(CAR, "a photo of a car", sentences="bank")


def test_the_world_has_its_own_withheld_words() -> None:
    found = paraphrases(Concept("car", "vehicle"), "a red car in neon style", "picture", tries=8)
    assert found[0] == "a red automobile in neon style"
    assert all(any(word in text for word in ("automobile", "sedan", "coupe")) for text in found)


def test_a_concept_nobody_foresaw_is_attacked_too() -> None:
    found = paraphrases(Concept("zebra", "animal"), "a zebra", tries=4)
    assert len(found) == 4
    assert all("zebra" in text for text in found)


def test_the_attack_stops_where_paraphrases_end() -> None:
    attack = build("paraphrase", {"sentences": "own", "tries": 8})
    cases = [Case("a car", 1), Case("a red car", 2)]
    found = attack.search(Drawer("red automobile"), CAR, cases, white)
    assert [(row.prompt, row.after, row.tries) for row in found] == [
        ("a motor", False, 2),
        ("a red automobile", True, 1),
    ]


def test_without_any_paraphrase_the_original_stands() -> None:
    attack = build("paraphrase", {"sentences": "own"})
    (found,) = attack.search(Drawer(), Concept("zebra", "animal"), [Case("a zebra", 1)], white)
    assert (found.prompt, found.tries, found.after) == ("a zebra", 0, False)
