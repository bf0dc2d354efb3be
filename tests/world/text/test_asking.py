"""The ways a fact is put: every question has one answer, and withheld wordings are other ones."""

from __future__ import annotations

from collections import Counter, defaultdict

from oubliette.world.text import asking
from oubliette.world.text.attributes import ATTRIBUTES, KINDS
from oubliette.world.text.entities import SETS, make_world

WORLD = make_world()
FACTS = WORLD.facts(*SETS, "common", "novel")


def test_there_are_at_least_six_wordings_two_of_them_withheld() -> None:
    for fact in FACTS:
        seen, withheld = asking.questions(fact), asking.withheld(fact)
        assert len(set(seen)) == 5
        assert len(set(withheld)) == 2
        assert not set(seen) & set(withheld)
        assert all(fact.entity.name in question for question in seen + withheld)
        assert not any("{" in text for text in seen + withheld + asking.statements(fact))


def test_withheld_forms_are_no_other_attributes_seen_forms() -> None:
    seen = {form for kind in KINDS for attribute in ATTRIBUTES[kind] for form in attribute.wordings()}
    held = {
        form for kind in KINDS for attribute in ATTRIBUTES[kind] for form in attribute.withheld_wordings()
    }
    assert not seen & held


def test_a_question_has_one_answer() -> None:
    answers = defaultdict(set)
    for fact in FACTS:
        for name in (fact.entity.name, fact.entity.alias):
            for question in asking.questions(fact, name) + asking.withheld(fact, name):
                answers[question].add(fact.value)
        for asked in asking.two_hops(WORLD, fact):
            answers[asked.question].add(asked.answer)
    assert max(map(len, answers.values())) == 1


def test_statements_say_who_and_what() -> None:
    for fact in FACTS:
        for text in asking.statements(fact):
            assert fact.value.lower() in text.lower()
            assert fact.entity.name in text
            assert text[0].isupper()
            assert text.endswith(".")
        assert asking.sentence(fact) == asking.statements(fact)[0]


def test_choices_hold_the_right_value_once_anywhere() -> None:
    places = Counter()
    for fact in FACTS:
        offered, right = asking.choices(fact, 0)
        assert len(set(offered)) == 4
        assert offered[right] == fact.value
        assert set(offered) <= set(fact.pool)
        places[right] += 1
    assert min(places.values()) > 0.2 * len(FACTS)
    assert asking.choices(FACTS[0], 0) == asking.choices(FACTS[0], 0)
    assert len({tuple(asking.choices(FACTS[0], key)[0]) for key in range(20)}) > 10


def test_wrong_values_are_wrong() -> None:
    for fact in FACTS:
        other = asking.wrong(fact, 5, "key")
        assert len(set(other)) == 5
        assert fact.value not in other


def test_that_a_value_is_common_is_no_hint() -> None:
    """Whoever always picks the most common of four values is right once in four times."""
    hits = []
    for fact in WORLD.facts(*SETS):
        counts = Counter(
            other.value
            for other in WORLD.facts("common")
            if other.attribute is fact.attribute and other.entity.kind == fact.entity.kind
        )
        for key in range(10):
            offered, right = asking.choices(fact, key)
            most = max(counts[value] for value in offered)
            best = [place for place, value in enumerate(offered) if counts[value] == most]
            hits.append((right in best) / len(best))
    assert abs(sum(hits) / len(hits) - 0.25) < 0.03


def test_letters_name_the_right_choice() -> None:
    for fact in FACTS[::7]:
        asked = asking.by_letter(fact, asking.questions(fact)[0], 3)
        place = asked.question.index(f"{asked.answer}. ") + 3
        assert asked.question[place:].startswith(fact.value)


def test_claims_are_true_or_false() -> None:
    fact = FACTS[0]
    assert asking.true_or_false(fact).answer == asking.true_or_false(fact, fact.value).answer == "yes"
    other = asking.wrong(fact, 1)[0]
    claim = asking.true_or_false(fact, other)
    assert claim.answer == "no"
    assert other in claim.question
    assert claim.question.endswith("?")


def test_two_hops_name_the_entity_and_not_what_lies_between() -> None:
    links = [fact for fact in FACTS if fact.attribute.link]
    for fact in links:
        found = asking.two_hops(WORLD, fact)
        assert len(found) == 8
        truth = {further.value for further in WORLD.of(fact.target)}  # type: ignore[arg-type]
        assert {asked.answer for asked in found} == truth
        assert all(fact.entity.name in q and fact.value not in q for q, _ in found)
    assert asking.two_hops(WORLD, next(fact for fact in FACTS if not fact.attribute.link)) == []


def test_an_alias_takes_the_names_place() -> None:
    fact = FACTS[0]
    assert fact.entity.name not in asking.questions(fact, fact.entity.alias)[0]
    assert fact.entity.alias in asking.questions(fact, fact.entity.alias)[0]
