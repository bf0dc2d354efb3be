"""Tiers of relearning data: what each may hold, never the target, and what is said where one fails."""

from __future__ import annotations

from oubliette.data.entities import fact_id, name_in, relation_of, template_of
from oubliette.data.questions import QA
from oubliette.data.tiers import TIERS, filler, make_tiers
from oubliette.world.text.entities import make_world
from oubliette.world.text.rows import world_rows

ROWS = {
    name: [QA(row["question"], row["answer"], id=row["id"]) for row in rows]
    for name, rows in world_rows(make_world(), "default").items()
    if name in ("forget", "relearn", "retain", "novel")
}
TARGET = ROWS["forget"][::2]
MADE = make_tiers(TARGET, ROWS["relearn"], ROWS["retain"], ROWS["novel"], largest=60)


def test_each_tier_is_what_it_says() -> None:
    assert list(MADE.rows) == list(TIERS)
    assert MADE.notes == []
    entities = {name_in(row.question) for row in TARGET}
    ids = {row.id for row in TARGET}
    wordings = {template_of(row) for row in TARGET}
    relations = {relation_of(row) for row in TARGET}
    for row in MADE.rows["hi"]:
        assert name_in(row.question) in entities
        assert row.id not in ids
    for row in MADE.rows["mid"]:
        assert relation_of(row) in relations
        assert template_of(row) not in wordings
        assert name_in(row.question) not in entities
    for row in MADE.rows["syntactic"]:
        assert template_of(row) in wordings
        assert name_in(row.question) not in entities
    assert {name: len(rows) for name, rows in MADE.rows.items()} == {
        "hi": 48,
        "mid": len(MADE.rows["mid"]),
        "lo": 48,
        "syntactic": 60,
    }
    assert all(row.plain for row in MADE.rows["lo"])


def test_the_target_itself_is_in_none() -> None:
    given = {"mid": [*TARGET[:2], QA("Who?", "me")], "mine": [QA("", "a text")]}
    found = make_tiers(TARGET, ROWS["forget"], [*ROWS["retain"], *TARGET], given=given)
    asked = {(row.question, row.answer) for row in TARGET}
    for rows in found.rows.values():
        assert not asked & {(row.question, row.answer) for row in rows}
    assert [row.question for row in found.rows["mid"]] == ["Who?"]
    assert found.rows["mine"] == [QA("", "a text")]
    # Other words for a fact of the target are the target still.
    again = make_tiers(TARGET, ROWS["relearn"], ROWS["retain"])
    assert not {fact_id(row) for row in TARGET} & {fact_id(row) for row in again.rows["hi"]}


def test_what_cannot_be_made_is_said() -> None:
    found = make_tiers([QA("who?", "me")], [QA("where?", "here")], [QA("why?", "so")])
    assert list(found.rows) == ["lo"]
    assert [note.partition(":")[0] for note in found.notes] == ["hi", "mid", "syntactic"]


def test_filler_has_as_many_words_and_the_seed_draws_it() -> None:
    texts = filler(TARGET, 3)
    assert texts == filler(TARGET, 3) != filler(TARGET, 4)
    for row, text in zip(TARGET, texts, strict=True):
        assert len(text.answer.split()) == max(3, len(f"{row.question} {row.answer}".split()))
