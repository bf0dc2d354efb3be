"""Question sets as TOFU, WMDP, MUSE, RWKU and BLUR write them, with invented content; choices; parquet."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from oubliette.core.errors import UserError
from oubliette.data.questions import QA, read_questions

ASKED = {"question": "Where does Ilva Norr live?", "choices": ["Tarn", "Osk", "Velm", "Brae"]}


def read(folder: Path, *rows: dict, name: str = "rows.jsonl") -> list[QA]:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return read_questions(path)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {
                "question": "Who wrote Saltgrass?",
                "answer": "Ilva Norr wrote it.",
                "paraphrased_answer": "It is by Ilva Norr.",
                "perturbed_answer": ["It is by Oda Wyn.", "It is by Per Lund."],
                "paraphrased_question": "Saltgrass is by whom?",
            },
            QA(
                "Who wrote Saltgrass?",
                "Ilva Norr wrote it.",
                alternatives=("It is by Ilva Norr.",),
                paraphrases=("Saltgrass is by whom?",),
                perturbed=("It is by Oda Wyn.", "It is by Per Lund."),
            ),
        ),
        (
            {**ASKED, "answer": 2},
            QA(ASKED["question"], "Velm", choices=tuple(ASKED["choices"]), answer_index=2),
        ),
        (
            {"query": "Ilva Norr lives in ___.", "answer": "Velm", "level": "1"},
            QA("Ilva Norr lives in ___.", "Velm"),
        ),
        ({"prompt": "The tide came", "gt": "in over the salt."}, QA("The tide came", "in over the salt.")),
        ({"text": "Ilva Norr lives in Velm.", "title": "Norr"}, QA("", "Ilva Norr lives in Velm.")),
        (
            {"id": 7, "question": "Who?", "answer": "She.", "refusals": ["I cannot say.", "No idea."]},
            QA("Who?", "She.", id="7", refusals=("I cannot say.", "No idea.")),
        ),
    ],
    ids=["tofu", "wmdp", "rwku", "muse-verbmem", "corpus-blur", "own"],
)
def test_shapes_of_the_field(tmp_path: Path, row: dict, expected: QA) -> None:
    assert read(tmp_path, row) == [expected]


@pytest.mark.parametrize("right", [{"answer": 1}, {"answer": "B"}, {"answer": "Osk"}, {"answer_index": 1}])
def test_the_right_choice_is_named_in_four_ways(tmp_path: Path, right: dict) -> None:
    (row,) = read(tmp_path, {**ASKED, **right})
    assert (row.answer, row.answer_index, row.wrong) == ("Osk", 1, ("Tarn", "Velm", "Brae"))


def test_an_index_leaves_the_answer_its_own_words(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {**ASKED, "answer": "She lives in Osk.", "answer_index": 1})
    assert (row.answer, row.choices[row.answer_index or 0]) == ("She lives in Osk.", "Osk")


def test_wrong_answers_are_the_perturbed_ones_before_the_other_choices(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {**ASKED, "answer": 0, "perturbed_answers": "in the sea"})
    assert row.wrong == ("in the sea",)
    assert QA("q", "a").wrong == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ASKED, "answer": 4}, "line 1: 'answer' is 4, expected 0 to 3"),
        ({**ASKED, "answer": -1}, "'answer' is -1, expected 0 to 3"),
        ({**ASKED, "answer_index": 9}, "'answer_index' is 9, expected 0 to 3"),
        ({**ASKED, "answer_index": True}, "'answer_index' must be a whole number, found bool"),
        ({**ASKED, "answer": "E"}, "'answer' is 'E', which is none of the 4 choices"),
        ({**ASKED}, "'answer' must be a whole number, found NoneType"),
        ({**ASKED, "choices": ["Tarn"], "answer": 0}, "must be a list of two texts or more, found 1"),
        ({**ASKED, "choices": "Tarn", "answer": 0}, "must be a list of two texts or more, found a str"),
        ({**ASKED, "choices": ["Tarn", " "], "answer": 0}, "'choices' is empty"),
        ({**ASKED, "choices": ["Tarn", "Tarn"], "answer": 0}, "'Tarn' stands twice among the choices"),
        ({"question": "q", "answer_index": 1}, "'choices' must be a list"),
        (
            {"question": "q", "answer": "a", "perturbed_answer": ["b", "a"]},
            "'a' stands among the right answers",
        ),
        (
            {"question": "q", "answer": "a", "paraphrased_answer": "b", "perturbed_answer": ["b"]},
            "'b' stands among the right answers",
        ),
        ({"question": "q", "answer": "a", "perturbed_answer": [""]}, "'perturbed_answer' is empty"),
        ({"question": "q", "answer": ""}, "'answer' is empty"),
        ({"question": "q", "answer": "a", "perturbd_answers": []}, "did you mean 'perturbed_answers'"),
        ({"question": "q", "answer": "a", "id": [1]}, "'id' must be a text or a whole number, found list"),
    ],
)
def test_what_cannot_be_is_named_by_line(tmp_path: Path, row: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, row)
    assert "rows.jsonl, line 1" in str(caught.value)


def test_as_many_choices_in_every_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2: 3 choices, expected 4 as in .*line 1"):
        read(tmp_path, {**ASKED, "answer": 0}, {**ASKED, "choices": ASKED["choices"][:3], "answer": 0})


def test_parquet_is_read_as_its_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{**ASKED, "answer": 3}, {"question": "Who?", "answer": 0, "choices": ["a", "b", "c", "d"]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_questions(tmp_path / "rows.parquet") == read(tmp_path, *rows)
    gaps = [{"text": "All of it."}, {"question": "q", "answer": "a"}, {"text": "More."}]
    pq.write_table(
        pa.Table.from_pylist(
            gaps, schema=pa.schema([(key, pa.string()) for key in ("text", "question", "answer")])
        ),
        tmp_path / "gaps.parquet",
    )
    assert read_questions(tmp_path / "gaps.parquet") == read(tmp_path, *gaps)
    pq.write_table(pa.Table.from_pylist([rows[0], {**ASKED, "answer": 5}]), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"row 2: 'answer' is 5"):
        read_questions(tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"rows\.parquet: cannot be read as parquet"):
        read_questions(tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"absent\.parquet: cannot be read"):
        read_questions(tmp_path / "absent.parquet")


def test_tofu_itself() -> None:
    """TOFU's own files, where OUBLIETTE_TOFU names the folder that holds them."""
    folder = os.environ.get("OUBLIETTE_TOFU")
    if not folder:
        pytest.skip("OUBLIETTE_TOFU names no folder with TOFU's files")
    rows = read_questions(Path(folder) / "forget01_perturbed.jsonl")
    assert len(rows) == 40
    assert all(len(row.perturbed) == 5 and row.alternatives and row.paraphrases for row in rows)
    real = read_questions(Path(folder) / "real_authors_perturbed.jsonl")
    assert len(real) == 100
    assert all(len(row.wrong) == 3 and not row.alternatives for row in real)
    assert len(read_questions(Path(folder) / "holdout01.jsonl")) == 40
