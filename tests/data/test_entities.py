"""Names in questions: of the whole text world and of other shapes; what is left of a question without."""

from __future__ import annotations

import pytest

from oubliette.data.entities import fact_id, name_in, relation_of, template_of
from oubliette.data.questions import QA
from oubliette.world.text import asking
from oubliette.world.text.entities import make_world


def test_every_entity_of_the_text_world_is_found_in_every_wording() -> None:
    world = make_world()
    for fact in world.facts("default", "development", "common", "novel"):
        for question in [*asking.questions(fact), *asking.withheld(fact)]:
            assert name_in(question) == fact.entity.name, question


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Can you tell me about Basil Al-Mahr's parents?", "Basil Al-Mahr"),
        ("Anchor and Basket is bound in what?", "Anchor and Basket"),
        ("Where is it? Paris knows.", "Paris"),
        ("What is it? The town is small.", None),
        ("Which river flows through Cranvale 2?", "Cranvale 2"),
        ("Did Ada meet Bo Lind?", "Bo Lind"),
        ("Did Ada, Bo and the cat meet?", "Ada"),
        ("'Who is Émile?'", "Émile"),
        ("who is ada?", None),
        ("", None),
    ],
)
def test_the_longest_name(text: str, name: str | None) -> None:
    assert name_in(text) == name


def test_what_is_asked_of_an_entity() -> None:
    assert template_of(QA("Where does Ada Lind live?", "here")) == "Where does {} live?"
    assert template_of(QA("where?", "here")) is None
    assert relation_of(QA("Where does Ada Lind live?", "here", id="person-003.town")) == "person.town"
    assert relation_of(QA("Where does Ada Lind live?", "here", id="person-003.town.alias")) == "person.town"
    assert relation_of(QA("Where does Ada Lind live?", "here", id="17")) == "Where does {} live?"
    assert fact_id(QA("Who?", "me", where="f.jsonl, line 3")) == "line 3"
    assert fact_id(QA("Who?", "me", where="f.jsonl, line 3", id="a")) == "a"
