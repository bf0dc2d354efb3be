"""A stream as JSON lines: records, groups, requests; what is none; another order of whole requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oubliette.core.errors import UserError
from oubliette.workflows.continual.request import Recorded
from oubliette.workflows.continual.requests import permuted, read_requests

FULL = {"id": "a", "text": "Name: Ada. Town: Quill.", "question": "Where is Ada from?", "answer": "Quill"}


def written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_a_line_is_a_record_a_group_or_a_request(tmp_path: Path) -> None:
    lines = [
        FULL,
        [{"question": "Who?", "answer": "me"}, {"question": "What?", "answer": ["this", "that"]}],
        {"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Hm."}]},
        {"forget": "more.jsonl", "steps": 3, "id": "b"},
        {"concept": "car", "method": "uce"},
    ]
    found = read_requests(written(tmp_path / "r.jsonl", lines))
    one, two, three = found[:3]
    assert isinstance(one, Recorded)
    assert isinstance(two, Recorded)
    assert isinstance(three, Recorded)
    assert [(row.question, row.answer) for row in one.rows] == [("", FULL["text"])]
    assert [(row.question, row.answer) for row in one.asked] == [(FULL["question"], FULL["answer"])]
    assert [row.answer for row in two.rows] == ["me", "this", "that"]
    assert two.asked == ()
    assert three.rows[0].where.endswith("r.jsonl, line 3")
    assert [request.id for request in found] == ["a", "line 2", "line 3", "b", None]
    assert (found[3].forget, found[3].steps, found[4].method) == ("more.jsonl", 3, "uce")
    assert not isinstance(found[3], Recorded)
    assert one.options() == {"concept": []}


WRONG = {
    "an empty stream": ([], "an empty stream; expected a record or a request a line"),
    "blank lines": (["\n", "  \n"], "an empty stream"),
    "a duplicate id": ([FULL, {**FULL, "text": "other"}], "requests 1 and 2 have the same id, 'a'"),
    "without its question": ([{"text": "t", "answer": "a"}], "line 1: a record without its question; found"),
    "without its answer": ([{"text": "t", "question": "q"}], "line 1: a record without its answer; found"),
    "without both": ([FULL, {"text": "t"}], "line 2: a record without its question, which that of .*line 1"),
    "without both, first": ([{"text": "t"}, FULL], "line 1: a record without its question, which"),
    "a number": ([FULL, 3], "line 2: found a int, expected a record"),
    "an empty list": ([[]], "line 1: found a list, expected a record"),
    "a number in a group": ([[FULL, "x"]], "line 1: found a str, expected a record"),
    "no JSON": (["{text: 3}\n"], "line 1: not JSON"),
    "no record": ([{"txet": "t"}], "line 1: has the keys txet; expected"),
    "a wrong key of a request": ([{"concept": "car", "stesp": 3}], "line 1: unknown key 'stesp'"),
    "an empty text": ([{"text": " "}], "line 1: 'text' is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_stream_is_one_line(case: str, tmp_path: Path) -> None:
    lines, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        read_requests(written(tmp_path / "r.jsonl", lines))
    assert "\n" not in str(caught.value)


def test_ids_of_yaml_are_held_apart_too(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("[{concept: car, id: x}, {concept: dog}, {concept: cat, id: x}]")
    with pytest.raises(UserError, match="requests 1 and 3 have the same id, 'x'"):
        read_requests(tmp_path / "r.yaml")


def test_another_order_moves_requests_whole(tmp_path: Path) -> None:
    lines = [
        {"id": f"r{n}", "text": f"text {n}", "question": f"q {n}?", "answer": f"a {n}"} for n in range(20)
    ]
    found = read_requests(written(tmp_path / "r.jsonl", lines))
    assert permuted(found, None) == found
    orders = [permuted(found, seed) for seed in (30, 40, 30)]
    assert orders[0] == orders[2] != orders[1]
    for order in orders:
        assert sorted(order, key=found.index) == found
        for request in order:
            assert isinstance(request, Recorded)
            number = str(request.id).removeprefix("r")
            assert request.rows[0].answer == f"text {number}"
            assert (request.asked[0].question, request.asked[0].answer) == (f"q {number}?", f"a {number}")
