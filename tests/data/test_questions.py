"""JSONL question sets in the three usual shapes; mistakes are named by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.data.questions import QA, read_questions
from oubliette.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "questions.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def test_the_three_shapes(tmp_path: Path) -> None:
    lines = [
        {"question": "Who?", "answer": "She.", "paraphrased_answer": "Her."},
        {"prompt": "1 + 1 =", "completion": " 2"},
        {"text": "All of it counts."},
    ]
    rows = read_questions(written(tmp_path, "\n\n".join(json.dumps(line) for line in lines)))
    assert rows == [QA("Who?", "She."), QA("1 + 1 =", " 2"), QA("", "All of it counts.")]
    assert [row.plain for row in rows] == [False, False, True]


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=10))
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    text = "".join(json.dumps({"question": q, "answer": a}, ensure_ascii=False) + "\n" for q, a in rows)
    assert read_questions(written(tmp_path_factory.getbasetemp(), text)) == [QA(q, a) for q, a in rows]


@given(st.lists(JSON, max_size=4))
def test_any_json_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, values: list) -> None:
    path = written(tmp_path_factory.getbasetemp(), "\n".join(json.dumps(value) for value in values))
    try:
        assert read_questions(path)
    except UserError:
        return


@given(st.binary(max_size=100))
def test_rubbish_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with pytest.raises(UserError, match=r"questions\.jsonl"):
        read_questions(written(tmp_path_factory.getbasetemp(), content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"question": "q"}\n', "line 2: no 'answer'; found question"),
        ('\n{"question": "q", "answer": 3}\n', "line 2: 'answer' must be text, found int"),
        ('{"text": "  "}\n', "line 1: 'text' is empty"),
        ('{"body": "x"}\n', "line 1: has the keys body; expected"),
        ("[1]\n", "line 1: found a list"),
        ('{"text": "a"\n', "line 1: not JSON"),
        ("[" * 100_000, "line 1: not JSON"),
        ("\n", "no rows"),
    ],
)
def test_mistakes_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_questions(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "absent.jsonl")
