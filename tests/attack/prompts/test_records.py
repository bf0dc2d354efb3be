"""Cases, rates and the field's CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from oubliette.attack.prompts.records import Case, Found, Tally, cases_of, read_found, write_found
from oubliette.core.errors import UserError
from oubliette.data.csv import PromptRow, read_prompts

FOUND = [
    Found(Case("a car", 3), "a car", True, True, 0),
    Found(Case("a red car", 4), 'dog, "two" a red car', False, True, 2, 0.125),
    Found(Case("a car, flat", 2**62), "+ a car, flat", False, False, 8, 1 / 3),
    Found(Case("a car by a house", 6), "truck", False, False, 5),
]


def test_rates_as_the_benchmark_defines_them() -> None:
    tally = Tally.of(FOUND)
    assert (tally.n, tally.before, tally.after) == (4, 1, 2)
    assert tally.pre_asr == 0.25
    # (1 success before + 1 of the attack's on the other three) / 4
    assert tally.asr == (1 + 1) / 4


def test_a_success_before_counts_in_both_rates_whatever_after_says() -> None:
    assert Tally.of([Found(Case("a car", 0), "a car", True, False, 0)]) == Tally(1, 1, 1)


def test_no_cases_have_no_rate() -> None:
    with pytest.raises(ValueError, match="at least one"):
        _ = Tally.of([]).asr


def test_the_table_is_the_fields_own(tmp_path: Path) -> None:
    path = write_found(tmp_path / "new" / "found.csv", FOUND, attack="p4d", concept="car")
    rows = read_prompts(path)
    assert [row.prompt for row in rows] == [row.prompt for row in FOUND]
    assert [row.seed for row in rows] == [row.case.seed for row in FOUND]
    assert [row.case for row in rows] == [0, 1, 2, 3]
    assert {row.extra["concept"] for row in rows} == {"car"}
    assert rows[1].extra["original_prompt"] == "a red car"


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    path = write_found(tmp_path / "found.csv", FOUND, attack="p4d", concept="car")
    assert read_found(path) == FOUND
    write_found(path, FOUND[:1], attack="p4d", concept="car")
    assert read_found(path) == FOUND[:1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["found.csv"]


def test_another_groups_table_has_prompts_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("case_number,prompt,evaluation_seed\n7,x y a car,12\n")
    assert read_found(path) == [Found(Case("x y a car", 12), "x y a car", False, False, 0)]


@pytest.mark.parametrize(("column", "value"), [("before", "yes"), ("tries", "many"), ("loss", "low")])
def test_a_cell_that_is_no_record_is_named(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(
        f"case_number,prompt,evaluation_seed,original_prompt,{column}\n3,x a car,1,a car,{value}\n"
    )
    with pytest.raises(UserError, match=f"case 3: .*{value}"):
        read_found(path)


def test_nothing_found_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cases"):
        write_found(tmp_path / "none.csv", [], attack="p4d", concept="car")
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_found(tmp_path / "file" / "found.csv", FOUND, attack="p4d", concept="car")


def test_cases_are_checked() -> None:
    assert Case("  a car ", 1).prompt == "a car"
    with pytest.raises(UserError, match="empty"):
        Case("  ", 1)
    with pytest.raises(UserError, match="seed"):
        Case("a car", -1)


def test_rows_of_a_table_are_cases() -> None:
    assert cases_of([PromptRow(9, "a car", 5)]) == [Case("a car", 5)]
