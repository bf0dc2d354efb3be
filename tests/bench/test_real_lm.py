"""`benchmarks/real_lm.py` end to end on a tiny model and rows in TOFU's shapes; again, it makes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import real_lm
import tiny_language
from oubliette.core.errors import UserError


def write(path: Path, count: int, **more: object) -> None:
    rows = [{"question": f"{path.stem} {n}?", "answer": f"it is {n}", **more} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    tofu = tmp_path / "tofu"
    tofu.mkdir()
    for name in ("forget01", "retain", "real_authors", "world_facts"):
        write(tofu / f"{name}_perturbed.jsonl", 6, perturbed_answer=["no", "never", "not so"])
    write(tofu / "holdout01.jsonl", 6)
    model = tiny_language.save(tmp_path / "tiny", "llama", chat=True)
    sizes = ["--items", "3", "--pairs", "4", "--epochs", "1", "--steps", "2", "--batch", "2"]
    where = ["--model", str(model), "--tofu", str(tofu), "--out", str(tmp_path / "out")]
    return [*where, *sizes, "--precision", "fp32", "--methods", "npo+sam"]


def test_every_cell_is_made_once(line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real_lm.main(line)
    first = capsys.readouterr()
    assert [text.split(" | ")[0] for text in first.out.splitlines() if text] == [
        *("| model", "| ---", "| base", "| taught", "| twin", "| npo+sam"),
        *("| model", "| ---", "| twin, relearned", "| npo+sam, relearned"),
    ]
    twin = next(text for text in first.out.splitlines() if text.startswith("| twin |")).split(" | ")
    assert twin[5] == "1.000"  # gold against itself
    (tmp_path / "out" / "cells" / "npo+sam.json").write_text("{}")  # damaged: done again
    real_lm.main(line)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "npo+sam: asked" in again.err
    assert ": made" not in again.err
    assert again.err.count(": asked") == 1


def test_one_line_says_what_is_missing(line: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        real_lm.main(["--model", "nowhere.gguf", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="expected TOFU's JSON lines"):
        real_lm.main([*line, "--tofu", str(tmp_path)])
    real_lm.Cells(real_lm.parse(line))
    with pytest.raises(UserError, match="begun with other settings"):
        real_lm.main([*line, "--steps", "3"])
