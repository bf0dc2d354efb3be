"""JSONL question sets in the three usual shapes; mistakes are named by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.core.errors import UserError
from oubliette.data.questions import QA, read_questions

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
    assert rows == [
        QA("Who?", "She.", alternatives=("Her.",)),
        QA("1 + 1 =", " 2"),
        QA("", "All of it counts."),
    ]
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
        ("[1]\n", "row 1: found a int"),
        ('[{"text": "a"},\n {"question": "q"}]', "row 2: no 'answer'"),
        ('[{"text": "a"},\n {"text" "b"}]', r"jsonl: not JSON \(.*, line 2, column 10\)"),
        ('{"text": "a"}\n[1]\n', "line 2: found a list"),
        ('{"text": "a"}\n{"text": "a"\n', r"line 2: not JSON \([^()]*, column 13\)"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no rows"),
        ("\n", "no rows"),
        ('{"messages": "hi"}', "line 1: 'messages' must be a list of turns"),
        (
            '{"messages": [{"role": "usr", "content": "a"}]}',
            "'messages', turn 1: no role 'usr'; did you mean 'user'",
        ),
        ('{"messages": [{"role": "user", "content": "a"}]}', "holds no answer of the assistant"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "follows no turn of the user"),
        ('{"messages": [{"role": "user", "content": 3}]}', "'messages, turn 1' must be text, found int"),
        ('{"prompt": ["a", "b"], "completion": ["x"]}', "2 in 'prompt' and 1 in 'completion'"),
        ('{"prompt": "a", "completion": []}', "'completion' must be text, found list"),
        ('{"instruction": "a"}', "line 1: no 'output'"),
        ('{"text": "\\ud800"}', "half a character"),
    ],
)
def test_mistakes_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_questions(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "absent.jsonl")


TURNS = [("user", "Who?"), ("assistant", "She."), ("user", "When?"), ("assistant", "Then.")]


@pytest.mark.parametrize(
    "content",
    [
        {"messages": [{"role": role, "content": said} for role, said in TURNS], "prompt": "Who?"},
        {"messages": [{"role": role, "content": [{"type": "text", "text": said}]} for role, said in TURNS]},
        {
            "conversations": [
                {"from": {"user": "human", "assistant": "gpt"}[role], "value": said} for role, said in TURNS
            ]
        },
    ],
)
def test_a_conversation_makes_a_row_of_each_answer(tmp_path: Path, content: dict) -> None:
    rows = read_questions(written(tmp_path, json.dumps(content)))
    assert rows == [QA("Who?", "She."), QA("When?", "Then.", tuple(TURNS[:2]))]


def test_prompts_and_completions_as_turns_count_the_completion_alone(tmp_path: Path) -> None:
    turns = [{"role": role, "content": said} for role, said in TURNS]
    content = json.dumps({"prompt": turns[:3], "completion": turns[3:]})
    assert read_questions(written(tmp_path, content)) == [QA("When?", "Then.", tuple(TURNS[:2]))]


def test_lists_of_answers_and_instructions(tmp_path: Path) -> None:
    lines = [
        {"question": "Who?", "answer": ["She.", "Her."]},
        {"prompt": ["a", "b"], "completion": ["x", "y"]},
        {"instruction": "Add.", "input": "1 + 1", "output": "2"},
        {"instruction": "Greet.", "input": "", "output": "Hello."},
    ]
    for text in ("\n".join(json.dumps(line) for line in lines), json.dumps(lines, indent=2)):
        rows = read_questions(written(tmp_path, text))
        assert rows == [
            QA("Who?", "She."),
            QA("Who?", "Her."),
            QA("a", "x"),
            QA("b", "y"),
            QA("Add.\n\n1 + 1", "2"),
            QA("Greet.", "Hello."),
        ]
    assert [row.where[-5:] for row in rows] == ["row 1", "row 1", "row 2", "row 2", "row 3", "row 4"]
