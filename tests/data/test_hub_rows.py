"""Rows of a data set on the Hub: which file a split is, and one line for what is not there."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from oubliette.core.errors import UserError
from oubliette.data.questions import read_questions
from oubliette.workflows.request import Request


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set `some/facts` with files as TOFU, WMDP and the Hub's own converter lay them out."""
    folder, fetched = tmp_path / "hub", tmp_path / "fetched"
    for number, name in enumerate(
        [
            "forget10.json",
            "retain90.json",
            "data/train-00000-of-00002.jsonl",
            "data/train-00001-of-00002.jsonl",
            "bio/test-00000-of-00001.jsonl",
            "chem/test-00000-of-00001.jsonl",
            "dev/dev.jsonl",
        ]
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"question": f"{name}?", "answer": f"it is {number}"}) + "\n")
    (folder / "README.md").write_text("no rows")

    def fetch(name: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        assert (name, repo_type) == ("some/facts", "dataset")
        for path in folder.rglob("*"):
            local = path.relative_to(folder)
            if path.is_file() and any(fnmatch(str(local), pattern) for pattern in allow_patterns):
                (fetched / local).parent.mkdir(parents=True, exist_ok=True)
                (fetched / local).write_bytes(path.read_bytes())
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return fetched


def said(source: Any) -> list[str]:
    return [row.answer for row in read_questions(source)]


def test_a_split_is_a_file_shards_or_a_folder(hub: Path) -> None:
    assert said("some/facts:forget10") == ["it is 0"]
    assert [path.name for path in hub.rglob("*.json*")] == ["forget10.json"]  # nothing else was fetched
    assert said(Path("some/facts:train")) == ["it is 2", "it is 3"]
    assert said("some/facts:bio/test") == ["it is 4"]
    assert said("some/facts:dev") == ["it is 6"]


def test_what_is_not_there_is_one_line(hub: Path) -> None:
    with pytest.raises(UserError, match="is one of bio/test, chem/test; name it whole"):
        said("some/facts:test")
    with pytest.raises(UserError, match="has the splits bio/test, chem/test, dev, forget10, retain90, train"):
        said("some/facts")
    with pytest.raises(UserError, match="no such split"):
        said("some/facts:forget1O")


def test_offline_is_one_line_and_a_file_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"no rows 'some/facts:x': not a file here") as caught:
        said("some/facts:x")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        said("some/facts.jsonl")
    with pytest.raises(UserError, match="no such file of questions"):
        Request("nano-lm", forget="some/facts.jsonl")
    Request("nano-lm", forget="some/facts:x")
