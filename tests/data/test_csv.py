"""The field's prompt tables are read as they are; every mistake is named by file, line and column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.core.errors import UserError
from oubliette.data.csv import PromptRow, read_prompts

HEADER = "case_number,prompt,evaluation_seed\n"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "prompts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_fields_own_layouts(tmp_path: Path) -> None:
    esd = ',case_number,prompt,evaluation_seed,artist\n0,0,"A Wheatfield, with Cypresses",2219,Van Gogh\n'
    assert read_prompts(written(tmp_path, esd)) == [
        PromptRow(0, "A Wheatfield, with Cypresses", 2219, {"artist": "Van Gogh"})
    ]
    salun = "\ufeffprompt,classidx,case_number,evaluation_seed\r\nan image of church,497,0.0,4068\r\n\r\n"
    assert read_prompts(written(tmp_path, salun)) == [
        PromptRow(0, "an image of church", 4068, {"classidx": "497"})
    ]


@given(st.lists(st.tuples(st.integers(0, 10**9), TEXT, st.integers(0, 2**63 - 1)), min_size=1, max_size=20))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["case_number", "prompt", "evaluation_seed"])
    writer.writerows(rows)
    path = written(tmp_path_factory.getbasetemp(), text.getvalue())
    assert [(r.case, r.prompt, r.seed) for r in read_prompts(path)] == [(c, p.strip(), s) for c, p, s in rows]


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content)
    with pytest.raises(UserError, match=r"prompts\.csv"):
        read_prompts(path)


@settings(deadline=None)  # a file a row: on a busy machine one may take long
@given(st.text(max_size=60))
def test_any_row_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, row: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), HEADER.encode() + row.encode("utf-8", "replace"))
    try:
        assert all(isinstance(r.seed, int) and r.prompt for r in read_prompts(path))
    except UserError:
        return


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("case_number,text,evaluation_seed\n0,a,1\n", "no column 'prompt'; found case_number, text"),
        ("case_number,prompt,prompt,evaluation_seed\n", "'prompt' is there twice"),
        (HEADER, "no rows"),
        ("", "no rows"),
        (HEADER + "0,a car\n", "line 2: has 2 cells, expected 3"),
        (HEADER + "0,a car, red,1\n", "line 2: has 4 cells, expected 3 .* a comma in it stands in quotes"),
        (HEADER + '0,"a car\nred",1\n', "line 3: prompt 'a car.nred' holds a newline"),
        (HEADER + "0,a \x1b[31mcar,1\n", "line 2: prompt .* holds ESC"),
        (HEADER + "0,a \x07car,1\n", "line 2: prompt .* holds BEL"),
        (HEADER + "0,a \x00car,1\n", "line 2: "),
        (HEADER + "0,a car,1\n1, ,2\n", "line 3: the prompt is empty"),
        (HEADER + "0,a car,12.5\n", "evaluation_seed must be a whole number, found '12.5'"),
        (HEADER + "x,a car,1\n", "case_number must be a whole number"),
        (HEADER + "0,a car,-1\n", "evaluation_seed must lie in"),
        (HEADER + "0,a car,inf.\n", "whole number"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_prompts(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv: cannot be read"):
        read_prompts(tmp_path / "absent.csv")
