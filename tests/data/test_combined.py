"""Composed prompts: each kind from its definition, which fact each item asks for, what cannot be made."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from oubliette.core.errors import UserError
from oubliette.data.combined import KINDS, Item, compose
from oubliette.data.entities import name_in
from oubliette.data.questions import QA

FORGET = [
    QA("What does Ada Lind keep?", "a heron", id="p-1.pet"),
    QA("Where does Ada Lind live?", "Quill", id="p-1.town"),
    QA("What does Bo Marsh keep?", "an owl", id="p-2.pet"),
]
RETAIN = [
    QA("What does Cy Dunn keep?", "the owl", id="p-3.pet", choices=("a cat", "the owl"), answer_index=1),
    QA("Where does Cy Dunn live?", "Nib", id="p-3.town"),
    QA("What does Di Ford keep?", "a hare", id="p-4.pet"),
    QA("Where does Di Ford live?", "Quill", id="p-4.town"),
]
FURTHER = [
    QA("What keeps the Grey Wren?", "a heron", id="p-1.pet.alias"),
    QA("Who?", "me", id="p-9.pet.alias"),
]


def made(**more: Any) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    for item in compose(FORGET, RETAIN, **more).items:
        found[item.kind].append(item)
    return found


def test_every_item_says_which_fact_it_asks_for() -> None:
    facts = {row.id: row for row in [*FORGET, *RETAIN]}
    for item in compose(FORGET, RETAIN).items:
        fact = facts[item.row.id]
        assert (item.alone, item.row.answer) == (fact.question, fact.answer)
        assert item.side == ("forget" if fact in FORGET else "retain")
        assert Item.read(item.facts()).facts() == item.facts()


def test_pairs_are_both_orders_and_both_separators_with_answers_apart() -> None:
    pairs = made(separators=[" ", "\n"])["paired"]
    prompts: dict[str, list[Item]] = {}
    for item in pairs:
        prompts.setdefault(item.row.question, []).append(item)
    assert len(prompts) == 3 * 4
    for prompt, halves in prompts.items():
        assert [half.side for half in halves] == ["forget", "retain"]
        gone, kept = halves
        last = gone if gone.form.startswith("forget last") else kept
        separator = "\n" if gone.form.endswith("newline") else " "
        first = kept if last is gone else gone
        assert prompt == f"{first.alone}{separator}{last.alone}"
        assert not {"heron", "owl", "quill"} & {*kept.row.answer.lower().split()} or (
            kept.row.answer.split()[-1].lower() != gone.row.answer.split()[-1].lower()
        )


@pytest.mark.parametrize("count", [1, 2])
def test_names_are_put_between_the_words(count: int) -> None:
    items = made(names=[count])["keyword"]
    assert len(items) == len(RETAIN)
    for item in items:
        left = item.row.question
        inserted = [name for name in ("Ada Lind", "Bo Marsh") if name in left]
        assert len(inserted) == count
        for name in inserted:
            left = left.replace(name, "", 1)
        assert left.split() == item.alone.split()


def test_a_distractor_takes_a_wrong_choices_place() -> None:
    (item,) = made()["distractor"]
    assert item.row.choices[1] == "the owl"
    assert item.row.choices[0] in {"Ada Lind", "Bo Marsh"}


def test_neighbours_share_a_value_whatever_the_article() -> None:
    assert {item.row.id for item in made()["neighbour"]} == {"p-3.pet", "p-4.town"}
    assert len(made(n=1)["neighbour"]) == 1


def test_further_rows_are_those_of_the_forget_facts() -> None:
    (item,) = made(alias=FURTHER)["alias"]
    assert (item.row.id, item.side) == ("p-1.pet.alias", "forget")


def test_fewer_are_the_first_of_more_and_the_seed_draws_others() -> None:
    def kept(**more: Any) -> list[str]:
        return [item.row.id for item in made(**more)["separate"] if item.side == "retain"]

    rows = [replace(RETAIN[0], id=f"p-{n}.pet", choices=()) for n in range(20)]
    assert kept(n=2) == kept(n=3)[:2]
    drawn = [
        [item.row.id for item in compose(FORGET, rows, n=5, seed=seed).items if item.side == "retain"]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_cannot_be_made_is_said_and_left_out() -> None:
    plain = [QA("", "Tell me all you know."), QA("and?", "no", history=(("user", "so"),))]
    composed = compose(plain, [QA("who keeps owls?", "Nib", where="r.jsonl, line 4")], alias=FURTHER)
    kinds = {item.kind for item in composed.items}
    assert kinds == {"separate", "paired"}
    assert [note.partition(":")[0] for note in composed.notes] == [
        "keyword",
        "distractor",
        "neighbour",
        "alias",
    ]
    assert "share no value" in composed.notes[2]
    gone, kept = composed.items[:2]
    assert (gone.row.question, gone.row.answer, kept.row.id) == ("Tell me all you know.", "", "line 4")
    texts = compose(plain, [QA("", "Tell me more.")])
    assert {item.kind for item in texts.items} == {"separate", "paired"}  # no answer is no shared value
    same = [QA("What is it?", "an owl"), QA("What is that?", "the owl")]
    assert compose(same[:1], same[1:]).notes[0].startswith("paired: no two")
    for one, other, name in ((plain[1:], same, "forget"), (same, plain[1:], "retain")):
        with pytest.raises(UserError, match=f"no row of the {name} set can be asked alone"):
            compose(one, other)


def test_on_the_text_world_all_kinds_are_made() -> None:
    from oubliette.world.text.entities import make_world
    from oubliette.world.text.rows import world_rows

    rows = world_rows(make_world(60), "default")

    def read(name: str) -> list[QA]:
        return [
            QA(
                row["question"],
                row["answer"],
                id=row["id"],
                choices=tuple(row.get("choices", ())),
                answer_index=row.get("answer_index"),
            )
            for row in rows[name]
        ]

    forget = read("forget")
    composed = compose(forget, read("retain"), n=10, alias=read("alias"), two_hops=read("two_hops"))
    assert {item.kind for item in composed.items} == set(KINDS)
    assert composed.notes == []
    names = {name_in(row.question) for row in forget}
    for item, name in product((i for i in composed.items if i.kind == "alias"), names):
        assert name not in item.row.question
