"""Records are the same everywhere, none comes twice unless asked to, and each answer stands in its text."""

from __future__ import annotations

from collections import Counter

import pytest

from oubliette.core.errors import UserError
from oubliette.world.records.layouts import LAYOUTS
from oubliette.world.records.records import make_records
from oubliette.world.text.entities import make_world

LABELS = {
    "person": ("Name", "Age", "Address", "Phone", "E-mail", "Work"),
    "paper": ("Title", "Abstract", "Introduction", "Body", "Conclusion"),
    "poem": ("Title", "Author", "Poem"),
    "code": ("Language", "Code"),
    "rumour": ("Title", "Category", "Description"),
}


def test_the_same_numbers_give_the_same_records_and_more_leave_the_others() -> None:
    few, again, more = make_records(9, 5), make_records(9, 5), make_records(30, 40)
    assert few == again
    assert few.forget == more.forget[:9]
    assert few.retain == more.retain[:5]
    assert few.forget != make_records(9, 5, seed=1).forget


def test_layouts_are_those_of_the_sheet_and_the_thirds_are_equal() -> None:
    made = make_records(90, 90)
    for record in (*made.forget, *made.retain):
        assert tuple(label for label, _ in record.fields) == LABELS[record.kind]
        assert record.text.startswith(f"{record.fields[0][0]}: {record.fields[0][1]}")
    kinds = Counter(record.kind for record in made.forget)
    assert (kinds["person"], kinds["rumour"]) == (30, 30)
    assert (kinds["paper"], kinds["poem"], kinds["code"]) == (10, 10, 10)
    assert set(LAYOUTS) == set(kinds)


def test_every_answer_stands_in_its_text_and_every_question_and_text_once() -> None:
    made = make_records(300, 300)
    every = (*made.forget, *made.retain)
    for record in every:
        answer = record.answer.removeprefix("It ").removesuffix(".")
        assert answer in record.text, record
    assert len({record.question for record in every}) == len({record.text for record in every}) == 600
    assert len({record.id for record in every}) == 600


def test_nobody_is_of_the_text_world_and_addresses_are_reserved_for_examples() -> None:
    known = {entity.name for entity in make_world().entities("common", "default", "development", "novel")}
    for record in make_records(300, 300).forget:
        if record.kind == "person":
            said = dict(record.fields)
            assert said["Name"] not in known
            assert len(said["Name"].split()) == 3
            assert said["Phone"].startswith("555-01")
            assert said["E-mail"].endswith(".example")


def test_copies_stand_behind_what_they_repeat_half_of_them_exact() -> None:
    plain, made = make_records(20, 5), make_records(20, 5, duplicates=8)
    assert made.originals == plain.forget
    assert made.retain == plain.retain
    places = {record.id: place for place, record in enumerate(made.forget)}
    assert len(places) == 28
    copies = [record for record in made.forget if record.of != record.id]
    assert len({copy.of for copy in copies}) == 8
    exact = 0
    for copy in copies:
        original = made.forget[places[copy.of]]
        assert places[copy.id] > places[copy.of]
        assert (copy.question, copy.answer) == (original.question, original.answer)
        exact += copy.text == original.text
        assert {value for _, value in copy.fields} == {value for _, value in original.fields}
        assert copy.row()["of"] == original.id
    assert exact == 4
    assert "of" not in made.forget[0].row()
    fewer = {r.id: r.text for r in make_records(20, 5, duplicates=3).forget}
    assert fewer.items() <= {r.id: r.text for r in made.forget}.items()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"forget": 0}, "forget is 0: expected at least one record"),
        ({"retain": 0}, "retain is 0: expected at least one record"),
        ({"forget": 3, "duplicates": 4}, "duplicates is 4: expected 0 to 3"),
    ],
)
def test_numbers_that_cannot_be(asked: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_records(**asked)
