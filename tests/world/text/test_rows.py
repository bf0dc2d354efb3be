"""The files of the text world: of the shape that is read, and nothing withheld where erasers train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oubliette.core.errors import UserError
from oubliette.data.questions import read_questions
from oubliette.eval.text.answer_judge import holds
from oubliette.workflows.world.text import write_text_world
from oubliette.world.text import asking
from oubliette.world.text.entities import SETS, Part, make_world
from oubliette.world.text.rows import FILES, world_rows

WORLD = make_world()


@pytest.mark.parametrize("part", SETS)
def test_nothing_withheld_and_nobody_else_where_erasers_train(part: Part) -> None:
    rows = world_rows(WORLD, part)
    trained = "\n".join(
        " ".join(str(row.get(key, "")) for key in ("question", "answer", "text"))
        for name in ("forget", "retain", "forget_text", "retain_text", "relearn", "novel")
        for row in rows[name]
    )
    for fact in WORLD.facts(*SETS, "common", "novel"):
        assert not any(question in trained for question in asking.withheld(fact))
    for entity in WORLD.entities(*(other for other in SETS if other != part)):
        assert entity.name not in trained
    kept = "\n".join(json.dumps(row) for row in rows["retain"] + rows["retain_text"])
    assert not any(entity.name in kept or entity.alias in kept for entity in WORLD.entities(*SETS))


def test_rows_hold_the_facts() -> None:
    rows = world_rows(WORLD, "default")
    assert set(rows) == set(FILES)
    facts = {fact.id: fact for fact in WORLD.facts(*SETS, "common", "novel")}
    for name, count in (("forget", 96), ("retain", 768), ("relearn", 96), ("novel", 192)):
        assert len(rows[name]) == count
        for row in rows[name]:
            fact = facts[row["id"]]
            assert row["question"] in asking.questions(fact)
            assert row["answer"] == fact.value == row["choices"][row["answer_index"]]
            assert len(set(row["perturbed_answers"]) - {fact.value}) == 5
            assert row["paraphrases"] == asking.withheld(fact)
            # The judge of answers tells the right one from every wrong one.
            assert not any(holds(wrong, [fact.value]) for wrong in row["perturbed_answers"])
    for one, other in zip(rows["forget"], rows["relearn"], strict=True):
        assert one["id"] == other["id"]
        assert one["question"] != other["question"]
    assert len({row["question"].split()[0] for row in rows["forget"]}) > 5  # wordings vary
    assert {row["answer"] for row in rows["true_false"]} == {"yes", "no"}
    assert len(rows["forget_text"]) == 12
    for row in rows["forget_text"]:
        for fact in WORLD.facts():
            if fact.entity.id == row["id"]:
                assert fact.value.lower() in row["text"].lower()


def test_no_row_stands_twice_and_forget_and_retain_share_none() -> None:
    rows = world_rows(WORLD, "default")
    for name, found in rows.items():
        ids = [row["id"] for row in found]
        assert len(set(ids)) == len(ids), name
        said = [row.get("question") or row["text"] for row in found]
        assert len(set(said)) == len(said), name
    assert not {row["question"] for row in rows["forget"]} & {row["question"] for row in rows["retain"]}


def test_the_files_are_read_by_their_reader(tmp_path: Path) -> None:
    folder = write_text_world(tmp_path / "facts", forget="development", size=30, seed=2)
    record = json.loads((folder / "oubliette.json").read_text())
    assert {path.stem for path in folder.glob("*.jsonl")} == set(record["files"])
    for name, told in record["files"].items():
        assert len(read_questions(folder / f"{name}.jsonl")) == told["rows"]
    first = read_questions(folder / "forget.jsonl")[0]
    assert len(first.paraphrases) == 2
    again = write_text_world(tmp_path / "again", forget="development", size=30, seed=2)
    for path in folder.glob("*.jsonl"):
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_an_unknown_forget_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no forget set is called 'developement'"):
        write_text_world(tmp_path / "facts", forget="developement")
    assert not (tmp_path / "facts").exists()
