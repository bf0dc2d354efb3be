"""Prompts found on one model, drawn by another."""

from __future__ import annotations

from pathlib import Path

import pytest

from attack.prompts.fakes import Drawer, white
from oubliette.attack.prompts import Case, Found, Tally, write_found
from oubliette.attack.prompts.replay import replay
from oubliette.core.errors import UserError

FOUND = [
    Found(Case("a car", 1), "zzz a car", False, True, 2, 0.5),
    Found(Case("an open car", 2), "an open car", True, True, 0),
    Found(Case("the car", 3), "yyy the car", False, False, 4),
]


def test_a_table_is_drawn_with_its_own_seeds(tmp_path: Path) -> None:
    path = write_found(tmp_path / "found.csv", FOUND, attack="p4d", concept="car")
    model = Drawer("yyy")
    made = replay(model, path, white)
    assert [(row.prompt, row.before, row.after) for row in made] == [
        ("zzz a car", False, False),
        ("an open car", False, False),
        ("yyy the car", False, True),
    ]
    # The second row's prompt is the original, which is not drawn twice.
    assert model.drawn[3:] == [("zzz a car", 1), ("yyy the car", 3)]
    assert Tally.of(made) == Tally(3, 0, 1)


def test_what_shows_unattacked_counts_as_before() -> None:
    made = replay(Drawer("the"), FOUND, white)
    assert [row.before for row in made] == [False, False, True]
    assert made[2].after
    assert made[2].tries == 0


def test_the_model_it_was_found_on_gives_the_same_again(tmp_path: Path) -> None:
    path = write_found(tmp_path / "found.csv", FOUND, attack="p4d", concept="car")
    made = replay(Drawer("zzz", "open"), path, white)
    assert [(row.before, row.after) for row in made] == [(row.before, row.after) for row in FOUND]


def test_another_groups_prompts_are_drawn_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("case_number,prompt,evaluation_seed\n0,zzz,5\n1,nothing,6\n")
    model = Drawer("zzz")
    assert [(row.before, row.after) for row in replay(model, path, white)] == [(False, True), (False, False)]
    assert model.drawn == [("zzz", 5), ("nothing", 6)]


def test_nothing_to_replay_is_refused() -> None:
    with pytest.raises(UserError, match="no prompts"):
        replay(Drawer(), [], white)
